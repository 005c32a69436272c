package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	control       = ":8080"
	soRcvbufForce = 33
	bufferBytes   = 8 << 20
)

var podFolder = regexp.MustCompile(`/pods/([0-9a-f-]{36})/etc-hosts `)

// serveEcho is the application in a Pod, in the words that the client of `persistip lab` understands. It answers each
// datagram from the address that it came to, with the datagram and its own name; streams to who asks for it (see
// streams.go); answers each line of a TCP connection likewise; and says over HTTP whether it is ready.
//
//	POD_NAME              said in every answer, with an @ and the Pod's UID
//	PERSISTENT_ADDRESSES  put on the Pod's own lo at start: the application holds the address itself
//	PORT                  TCP and UDP, IPv4 and IPv6 (default 5060)
//	READY_AFTER_SECONDS   a slow start (default 0)
//	SHUTDOWN_SECONDS      how long it goes on serving after SIGTERM: for as long as a move takes (default 2)
func serveEcho([]string) error {
	for _, address := range strings.FieldsFunc(os.Getenv("PERSISTENT_ADDRESSES"), isSeparator) {
		if err := hold(address); err != nil {
			return fmt.Errorf("%s cannot be put on lo: %w", address, err)
		}
	}
	name := []byte(os.Getenv("POD_NAME") + "@" + ownUID())
	port := int(secondsOf("PORT", 5060))
	for _, family := range []string{"4", "6"} {
		udp, err := net.ListenUDP("udp"+family, &net.UDPAddr{Port: port})
		if err != nil {
			return err
		}
		tcp, err := net.ListenTCP("tcp"+family, &net.TCPAddr{Port: port})
		if err != nil {
			return err
		}
		if err := wantDestinations(udp, family); err != nil {
			return err
		}
		go answer(udp, name)
		go accept(tcp, name)
	}
	var ready atomic.Bool
	time.AfterFunc(time.Duration(secondsOf("READY_AFTER_SECONDS", 0)*float64(time.Second)), func() { ready.Store(true) })
	go func() {
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGTERM)
		<-told
		time.Sleep(time.Duration(secondsOf("SHUTDOWN_SECONDS", 2) * float64(time.Second)))
		os.Exit(0)
	}()
	return serveReadiness(&ready)
}

// ownUID tells this Pod from an earlier one of its name: the kubelet mounts a file of the Pod's own folder.
func ownUID() string {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	if found := podFolder.FindSubmatch(mounts); found != nil {
		return string(found[1])
	}
	return ""
}

func isSeparator(r rune) bool { return r == ',' || r == ' ' }

func secondsOf(name string, otherwise float64) float64 {
	if value, err := strconv.ParseFloat(os.Getenv(name), 64); err == nil {
		return value
	}
	return otherwise
}

func serveReadiness(ready *atomic.Bool) error {
	http.HandleFunc("/ready", func(answer http.ResponseWriter, asked *http.Request) {
		if wanted := asked.URL.Query().Get("set"); wanted != "" {
			ready.Store(wanted == "true")
		} else if !ready.Load() {
			http.Error(answer, "not ready", http.StatusServiceUnavailable)
		}
	})
	return http.ListenAndServe(control, nil)
}

// setReady tells the application in the same Pod whether it is ready.
func setReady(args []string) error {
	answer, err := http.Get("http://127.0.0.1" + control + "/ready?set=" + strings.Join(args, ""))
	if err != nil {
		return err
	}
	return answer.Body.Close()
}

// wantDestinations makes the kernel tell where each datagram was sent to, and gives it room to keep them.
func wantDestinations(sock *net.UDPConn, family string) error {
	raw, err := sock.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	err = raw.Control(func(fd uintptr) {
		// A busy machine must not look like a network that loses packets; refused without NET_ADMIN.
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soRcvbufForce, bufferBytes)
		if family == "6" {
			refused = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_RECVPKTINFO, 1)
		} else {
			refused = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_PKTINFO, 1)
		}
	})
	if err != nil {
		return err
	}
	return refused
}

func answer(sock *net.UDPConn, name []byte) {
	data, ancillary := make([]byte, 2048), make([]byte, 256)
	lines := &streams{sock: sock, name: name, each: map[string]*stream{}}
	for {
		length, told, _, peer, err := sock.ReadMsgUDP(data, ancillary)
		if err != nil {
			continue
		}
		source := sourceOf(ancillary[:told])
		// What cannot be sent is missing at the client, which says so.
		_, _, _ = sock.WriteMsgUDP(append(append([]byte{}, data[:length]...), name...), source, peer)
		lines.ask(data[:length], source, peer)
	}
}

// sourceOf turns what the kernel says of a datagram's destination into what sets the source of its answer.
func sourceOf(ancillary []byte) []byte {
	messages, err := syscall.ParseSocketControlMessage(ancillary)
	if err != nil {
		return nil
	}
	for _, each := range messages {
		header := each.Header
		switch {
		case header.Level == syscall.IPPROTO_IPV6 && header.Type == syscall.IPV6_PKTINFO:
			clear(each.Data[16:]) // by whichever link the route says
			return controlMessage(syscall.IPPROTO_IPV6, syscall.IPV6_PKTINFO, each.Data)
		case header.Level == syscall.IPPROTO_IP && header.Type == syscall.IP_PKTINFO:
			body := make([]byte, 12)
			copy(body[4:8], each.Data[8:12])
			return controlMessage(syscall.IPPROTO_IP, syscall.IP_PKTINFO, body)
		}
	}
	return nil
}

func controlMessage(level, kind int32, body []byte) []byte {
	made := make([]byte, syscall.CmsgSpace(len(body)))
	binary.NativeEndian.PutUint64(made, uint64(syscall.CmsgLen(len(body))))
	binary.NativeEndian.PutUint32(made[8:], uint32(level))
	binary.NativeEndian.PutUint32(made[12:], uint32(kind))
	copy(made[syscall.CmsgLen(0):], body)
	return made
}

func accept(listener *net.TCPListener, name []byte) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			continue
		}
		go func() {
			defer connection.Close()
			for lines := bufio.NewScanner(connection); lines.Scan(); {
				if _, err := fmt.Fprintf(connection, "%s %s\n", lines.Bytes(), name); err != nil {
					return
				}
			}
		}()
	}
}
