package main

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"
)

// hold puts an address on lo, as an application with NET_ADMIN in its own namespace does. It may be there already.
func hold(text string) error {
	address, err := netip.ParseAddr(text)
	if err != nil {
		return err
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	family, packed := byte(syscall.AF_INET), address.AsSlice()
	if address.Is6() {
		family = syscall.AF_INET6
	}
	body := []byte{family, byte(address.BitLen()), 0x02, 0} // IFA_F_NODAD; scope of everywhere
	body = binary.NativeEndian.AppendUint32(body, uint32(lo.Index))
	body = binary.NativeEndian.AppendUint16(body, uint16(4+len(packed)))
	body = binary.NativeEndian.AppendUint16(body, syscall.IFA_LOCAL)
	body = append(body, packed...)
	flags := syscall.NLM_F_REQUEST | syscall.NLM_F_ACK | syscall.NLM_F_CREATE | syscall.NLM_F_REPLACE
	return netlink(syscall.RTM_NEWADDR, flags, body)
}

func netlink(kind, flags int, body []byte) error {
	sock, err := syscall.Socket(syscall.AF_NETLINK, syscall.SOCK_RAW, syscall.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer syscall.Close(sock)
	message := binary.NativeEndian.AppendUint32(nil, uint32(syscall.NLMSG_HDRLEN+len(body)))
	message = binary.NativeEndian.AppendUint16(message, uint16(kind))
	message = binary.NativeEndian.AppendUint16(message, uint16(flags))
	message = append(binary.NativeEndian.AppendUint64(message, 1), body...)
	if err := syscall.Sendto(sock, message, 0, &syscall.SockaddrNetlink{Family: syscall.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 4096)
	if _, _, err := syscall.Recvfrom(sock, answer, 0); err != nil {
		return err
	}
	if code := int32(binary.NativeEndian.Uint32(answer[syscall.NLMSG_HDRLEN:])); code < 0 {
		return syscall.Errno(-code)
	}
	return nil
}
