package main

import (
	"os"
	"os/signal"
	"syscall"
)

// pause holds a Pod's namespaces until it is told to end, and reaps where it is the Pod's first process.
func pause([]string) error {
	told := make(chan os.Signal, 16)
	signal.Notify(told, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	for each := range told {
		if each != syscall.SIGCHLD {
			return nil
		}
		for {
			var status syscall.WaitStatus
			if pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil); err != nil || pid <= 0 {
				break
			}
		}
	}
	return nil
}
