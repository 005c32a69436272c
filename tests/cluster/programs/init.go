package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// order is one line of standard input; each is answered with one line of standard output.
type order struct {
	Do      string   `json:"do"` // start, signal, wait, shutdown
	Name    string   `json:"name"`
	Argv    []string `json:"argv"`
	Env     []string `json:"env"`
	Log     string   `json:"log"`
	Signal  int      `json:"signal"`
	Seconds float64  `json:"seconds"`
}

// machine is the first process's memory: which programs it started and which of them still run.
type machine struct {
	running map[string]int
	ended   chan os.Signal
}

// first is a machine's first process. It prepares a node's file system, then starts, signals and awaits programs as it
// is told, and reaps whatever its descendants leave behind. The end of standard input is the end of the machine.
func first(args []string) error {
	what, err := readPlan(args)
	if err != nil {
		return err
	}
	if what.Kind == "node" {
		if err := prepare(what); err != nil {
			return err
		}
	}
	signal.Ignore(syscall.SIGHUP, syscall.SIGPIPE, syscall.SIGTERM, syscall.SIGINT)
	own := &machine{running: map[string]int{}, ended: make(chan os.Signal, 256)}
	signal.Notify(own.ended, syscall.SIGCHLD)
	orders := make(chan order)
	go func() {
		defer close(orders)
		lines := bufio.NewScanner(os.Stdin)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			var one order
			if json.Unmarshal(lines.Bytes(), &one) == nil {
				orders <- one
			}
		}
	}()
	fmt.Println(`{"ready": true}`)
	for {
		select {
		case <-own.ended:
			own.reap()
		case one, more := <-orders:
			if !more {
				return nil
			}
			answer := map[string]any{"running": false}
			if err := own.follow(one); err != nil {
				answer["error"] = err.Error()
			}
			own.reap()
			_, answer["running"] = own.running[one.Name]
			said, _ := json.Marshal(answer)
			fmt.Println(string(said))
		}
	}
}

func (own *machine) follow(one order) error {
	switch one.Do {
	case "start":
		return own.start(one)
	case "signal":
		if pid, there := own.running[one.Name]; there {
			return syscall.Kill(pid, syscall.Signal(one.Signal))
		}
		return nil
	case "wait":
		own.await(one.Seconds, func() bool { _, there := own.running[one.Name]; return !there })
		return nil
	case "shutdown":
		// As an orderly shutdown does: everything is asked to end, and what has not after a while is ended.
		_ = syscall.Kill(-1, syscall.SIGTERM)
		own.await(one.Seconds, func() bool { return syscall.Kill(-1, 0) == syscall.ESRCH })
		return nil
	}
	return fmt.Errorf("no such order: %s", one.Do)
}

func (own *machine) start(one order) error {
	own.reap()
	if _, there := own.running[one.Name]; there {
		return fmt.Errorf("%s runs already", one.Name)
	}
	log, err := os.OpenFile(one.Log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	nothing, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer nothing.Close()
	files := []uintptr{nothing.Fd(), log.Fd(), log.Fd()}
	how := &syscall.ProcAttr{Dir: "/", Env: one.Env, Files: files, Sys: &syscall.SysProcAttr{Setsid: true}}
	pid, err := syscall.ForkExec(one.Argv[0], one.Argv, how)
	if err == nil {
		own.running[one.Name] = pid
	}
	return err
}

func (own *machine) await(seconds float64, holds func() bool) {
	for deadline := time.Now().Add(time.Duration(seconds * float64(time.Second))); time.Now().Before(deadline); {
		own.reap()
		if holds() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// reap takes in all that has ended.
func (own *machine) reap() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		for name, each := range own.running {
			if each == pid {
				delete(own.running, name)
			}
		}
	}
}
