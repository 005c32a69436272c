// What a test cluster needs beside Kubernetes, in one binary of the standard library: the first argument picks it.
//
//	boot   makes the namespaces of a machine and its first process in them
//	init   is that first process
//	pause  holds a Pod's namespaces
//	echo   is the application in a Pod
//	set    asks the echo application beside it to be ready or not: `set true`
package main

import (
	"fmt"
	"os"
)

var programs = map[string]func([]string) error{
	"boot": boot, "init": first, "pause": pause, "echo": serveEcho, "set": setReady,
}

func main() {
	if len(os.Args) < 2 || programs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "the first argument is one of boot, init, pause, echo, set")
		os.Exit(2)
	}
	if err := programs[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}
