module kvnode.io/tools/containerd

go 1.26

require github.com/containerd/containerd/v2 v2.4.2

tool github.com/containerd/containerd/v2/cmd/containerd

tool github.com/containerd/containerd/v2/cmd/ctr

tool github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
