module kvnode.io/tools/coredns

go 1.26

require github.com/coredns/coredns v1.14.7

tool github.com/coredns/coredns
