package main

import (
	"encoding/binary"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

const (
	requestSize = 26
	leaseNS     = 2_000_000_000
	shortestNS  = 100_000
)

// streams sends one datagram a tick to each asker, for leaseNS after its latest request. Ticks are numbered by the
// machine's monotonic clock, so that all Pods and the client agree on them without a word; each datagram tells which
// tick its sender served before, so that what was never sent is not taken for lost.
type streams struct {
	sock *net.UDPConn
	name []byte
	lock sync.Mutex
	each map[string]*stream
}

type stream struct {
	until  atomic.Int64
	source atomic.Pointer[[]byte]
}

// ask takes a request in: "pip?", number, instant, interval, and the port to stream to; 0 asks for none.
func (all *streams) ask(data, source []byte, peer *net.UDPAddr) {
	if len(data) < requestSize || string(data[:4]) != "pip?" {
		return
	}
	interval := max(int64(binary.BigEndian.Uint32(data[20:])), shortestNS)
	port := binary.BigEndian.Uint16(data[24:])
	if port == 0 {
		return
	}
	target := &net.UDPAddr{IP: peer.IP, Port: int(port), Zone: peer.Zone}
	all.lock.Lock()
	defer all.lock.Unlock()
	one, there := all.each[target.String()]
	if !there {
		one = &stream{}
		all.each[target.String()] = one
	}
	one.source.Store(&source)
	one.until.Store(monotonic() + leaseNS)
	if !there {
		go all.serve(one, target, interval)
	}
}

func (all *streams) serve(one *stream, target *net.UDPAddr, interval int64) {
	// A thread of its own sleeps to the microsecond, which the runtime's timers do not.
	runtime.LockOSThread()
	var before int64
	for {
		now := monotonic()
		if now >= one.until.Load() {
			all.lock.Lock()
			// Asked again meanwhile, it goes on.
			ended := now >= one.until.Load()
			if ended {
				delete(all.each, target.String())
			}
			all.lock.Unlock()
			if ended {
				return
			}
		}
		tick := now / interval
		if before == 0 {
			before = tick
		}
		message := append(make([]byte, 0, 64), "pip>"...)
		message = binary.BigEndian.AppendUint64(message, uint64(tick))
		message = binary.BigEndian.AppendUint64(message, uint64(before))
		_, _, _ = all.sock.WriteMsgUDP(append(message, all.name...), *one.source.Load(), target)
		before = tick
		rest := syscall.NsecToTimespec(max((tick+1)*interval-monotonic(), 0))
		_ = syscall.Nanosleep(&rest, nil)
	}
}

// monotonic is CLOCK_MONOTONIC, which all processes of the machine share.
func monotonic() int64 {
	var now syscall.Timespec
	_, _, _ = syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 1, uintptr(unsafe.Pointer(&now)), 0)
	return now.Nano()
}
