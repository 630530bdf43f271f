module kvnode.io/tools/versitygw

go 1.26

require github.com/versity/versitygw v1.8.0

tool github.com/versity/versitygw/cmd/versitygw
