package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// The kubelet writes these settings of the whole machine. In a node they are files that hold what it wants already, so
// that the machine's own stay as they are.
var settings = map[string]string{
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/keys/root_maxbytes": "25000000",
}

// disks are the directories that a node keeps over a power cut; they hide the machine's own of the same name.
var disks = []string{"/var/lib", "/var/log"}

// prepare gives a node its own view of the file system; nothing of it is seen outside, and all ends with the namespace.
func prepare(what plan) error {
	if err := syscall.Sethostname([]byte(what.Name)); err != nil {
		return err
	}
	steps := []func(plan) error{ownTree, groupTree, ownSettings, ownDirectories}
	for _, step := range steps {
		if err := step(what); err != nil {
			return err
		}
	}
	// Mounts of Pods go both ways, as the kubelet wants it.
	return syscall.Mount("", "/", "", syscall.MS_SHARED|syscall.MS_REC, "")
}

func mount(source, target, kind, options string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := syscall.Mount(source, target, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s (%s %s): %w", target, kind, options, err)
	}
	return nil
}

func bind(source, target string) error {
	if err := syscall.Mount(source, target, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	return nil
}

func ownTree(plan) error {
	if err := syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""); err != nil {
		return err
	}
	if err := mount("proc", "/proc", "proc", ""); err != nil {
		return err
	}
	return mount("sysfs", "/sys", "sysfs", "")
}

// groupTree mounts the cgroup hierarchies anew: from within the cgroup namespace each shows the node's part alone.
func groupTree(what plan) error {
	const root = "/sys/fs/cgroup"
	if len(what.Hierarchies) == 0 {
		return unifiedTree(root)
	}
	if err := mount("cgroup", root, "tmpfs", "mode=755"); err != nil {
		return err
	}
	for _, options := range what.Hierarchies {
		directory, named := strings.CutPrefix(options, "name=")
		if named {
			options = "none," + options
		}
		if err := mount("cgroup", filepath.Join(root, directory), "cgroup", options); err != nil {
			return err
		}
	}
	return nil
}

func unifiedTree(root string) error {
	if err := mount("cgroup2", root, "cgroup2", ""); err != nil {
		return err
	}
	// A group that hands controllers to its children may hold no process itself.
	if err := os.MkdirAll(root+"/init", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(root+"/init/cgroup.procs", []byte("0"), 0); err != nil {
		return err
	}
	for _, controller := range []string{"cpu", "cpuset", "io", "memory", "pids", "hugetlb"} {
		// What is not there cannot be handed on; the kubelet says what it misses.
		_ = os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+controller), 0)
	}
	return nil
}

func ownSettings(what plan) error {
	for name, value := range settings {
		file := filepath.Join(what.Folder, "settings", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := bind(file, "/proc/sys/"+name); err != nil {
			return err
		}
	}
	return nil
}

func ownDirectories(what plan) error {
	if err := mount("run", "/run", "tmpfs", "mode=755"); err != nil {
		return err
	}
	for _, directory := range []string{"/run/lock", "/run/netns", "/run/etc/upper", "/run/etc/work"} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	// The kubelet and the plugins put files there; a layer that is gone with the node takes them.
	if err := mount("etc", "/etc", "overlay", "lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work"); err != nil {
		return err
	}
	for _, directory := range disks {
		own := filepath.Join(what.Folder, "disk", directory)
		if err := os.MkdirAll(own, 0o755); err != nil {
			return err
		}
		if err := bind(own, directory); err != nil {
			return err
		}
	}
	for _, directory := range []string{"/etc/cni/net.d", "/var/lib/kubelet", "/var/lib/containerd", "/var/log/pods"} {
		if err := os.MkdirAll(directory, 0o755); err != nil {
			return err
		}
	}
	return nil
}
