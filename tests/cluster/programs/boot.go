package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// plan is what a machine is made of; it comes as JSON in the argument.
type plan struct {
	Name string `json:"name"`
	// Kind is "network" for a machine that is a network namespace and nothing else, or "node".
	Kind string `json:"kind"`
	// Folder is the node's own disk.
	Folder string `json:"folder"`
	// Groups are the cgroups that the node's processes live in: one directory for each hierarchy.
	Groups []string `json:"groups"`
	// Hierarchies are the mount options of cgroup v1, one for each hierarchy; none of them: cgroup v2.
	Hierarchies []string `json:"hierarchies"`
}

func readPlan(args []string) (plan, error) {
	var what plan
	if len(args) != 1 {
		return what, fmt.Errorf("one argument is expected, a plan in JSON")
	}
	return what, json.Unmarshal([]byte(args[0]), &what)
}

// boot starts the machine's first process, says its number on standard output, and ends with it. Killing either of the
// two is a power cut: the kernel ends all that runs in the machine.
func boot(args []string) error {
	what, err := readPlan(args)
	if err != nil {
		return err
	}
	// The child's end is tied to the thread that made it.
	runtime.LockOSThread()
	// The cgroup namespace has its root where the process stands that makes it.
	for _, group := range what.Groups {
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	flags := uintptr(syscall.CLONE_NEWNET)
	if what.Kind == "node" {
		flags |= syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP
	}
	child := exec.Command("/proc/self/exe", "init", args[0])
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Printf("{\"pid\": %d}\n", child.Process.Pid)
	return child.Wait()
}
