// Kubernetes in one binary, for tests: the first argument, or the name it is called by, picks the program.
//
// One binary is linked once and carries the shared code once. Versions are pinned in go.mod; nothing is patched.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// programs makes each command only when it is asked for: some register flags globally.
var programs = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllers.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
}

func main() {
	called := append([]string{filepath.Base(os.Args[0])}, os.Args[1:]...)
	if !known(called[0]) {
		called = called[1:]
	}
	if len(called) == 0 || !known(called[0]) {
		fmt.Fprintln(os.Stderr, "the first argument is one of", strings.Join(names(), ", "))
		os.Exit(2)
	}
	// cobra and etcd read the arguments from here.
	os.Args = called
	if called[0] == "etcd" {
		etcdmain.Main(called)
		return
	}
	os.Exit(cli.Run(programs[called[0]]()))
}

func names() []string {
	all := []string{"etcd"}
	for name := range programs {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

func known(name string) bool {
	return slices.Contains(names(), name)
}
