// Package embed stands in for etcd's package of this name. It starts the program that $SERVER names where etcd's starts a
// server inside of the test, so that tests which embed etcd run against any server with etcd's flags.
//
// It has what Kubernetes' tests use of the other and no more: what they may begin to use does not compile.
package embed

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.uber.org/zap"
)

// Config is what a test sets of a server's flags.
type Config struct {
	Name                        string
	Dir                         string
	UnsafeNoFsync               bool
	ListenPeerUrls              []url.URL
	AdvertisePeerUrls           []url.URL
	ListenClientUrls            []url.URL
	AdvertiseClientUrls         []url.URL
	InitialCluster              string
	ClientTLSInfo               transport.TLSInfo
	QuotaBackendBytes           int64
	MaxRequestBytes             uint
	WatchProgressNotifyInterval time.Duration
	// ZapLoggerBuilder is not used: the program writes its own log, which Etcd.Err tells when it fails.
	ZapLoggerBuilder func(*Config) error
}

// NewConfig is a server with default flags.
func NewConfig() *Config {
	return &Config{Name: "default", MaxRequestBytes: 1.5 * 1024 * 1024}
}

// NewZapLoggerBuilder takes what nobody uses; see Config.
func NewZapLoggerBuilder(*zap.Logger) func(*Config) error { return nil }

// InitialClusterFromName is the cluster of this member alone.
func (c *Config) InitialClusterFromName(name string) string {
	members := make([]string, len(c.AdvertisePeerUrls))
	for i, url := range c.AdvertisePeerUrls {
		members[i] = name + "=" + url.String()
	}
	return strings.Join(members, ",")
}

func (c *Config) flags() []string {
	flags := []string{
		"--name=" + c.Name,
		"--data-dir=" + c.Dir,
		"--initial-cluster=" + c.InitialCluster,
		"--listen-peer-urls=" + joined(c.ListenPeerUrls),
		"--initial-advertise-peer-urls=" + joined(c.AdvertisePeerUrls),
		"--listen-client-urls=" + joined(c.ListenClientUrls),
		"--advertise-client-urls=" + joined(c.AdvertiseClientUrls),
		"--quota-backend-bytes=" + strconv.FormatInt(c.QuotaBackendBytes, 10),
		"--max-request-bytes=" + strconv.FormatUint(uint64(c.MaxRequestBytes), 10),
		"--unsafe-no-fsync=" + strconv.FormatBool(c.UnsafeNoFsync),
		"--client-cert-auth=" + strconv.FormatBool(c.ClientTLSInfo.ClientCertAuth),
		"--log-level=error",
	}
	for name, value := range map[string]string{
		"cert-file":       c.ClientTLSInfo.CertFile,
		"key-file":        c.ClientTLSInfo.KeyFile,
		"trusted-ca-file": c.ClientTLSInfo.TrustedCAFile,
	} {
		if value != "" {
			flags = append(flags, "--"+name+"="+value)
		}
	}
	if c.WatchProgressNotifyInterval > 0 {
		flags = append(flags, "--watch-progress-notify-interval="+c.WatchProgressNotifyInterval.String())
	}
	return flags
}

func joined(urls []url.URL) string {
	texts := make([]string, len(urls))
	for i, url := range urls {
		texts[i] = url.String()
	}
	return strings.Join(texts, ",")
}

// Etcd is a running program.
type Etcd struct {
	Server  *Server
	process *exec.Cmd
	ended   chan struct{}
	closing chan struct{}
	errors  chan error
}

// Server is what a test asks of a running program.
type Server struct {
	etcd *Etcd
	urls []string
}

// startSeconds is how long a program may take until it answers.
const startSeconds = 30

// StartEtcd starts the program and waits until it answers.
func StartEtcd(config *Config) (*Etcd, error) {
	program := os.Getenv("SERVER")
	if program == "" {
		return nil, errors.New("SERVER has to name the program to test")
	}
	// Where nobody can ask whether the server is healthy without a certificate, a port of its own tells.
	health, err := healthURL()
	if err != nil {
		return nil, err
	}
	var log bytes.Buffer
	process := exec.Command(program, append(config.flags(), "--listen-metrics-urls="+health)...)
	process.Stdout, process.Stderr = &log, &log
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", program, err)
	}
	etcd := &Etcd{process: process, ended: make(chan struct{}), closing: make(chan struct{}), errors: make(chan error, 1)}
	etcd.Server = &Server{etcd: etcd, urls: strings.Split(joined(config.AdvertiseClientUrls), ",")}
	go func() {
		err := process.Wait()
		select {
		case <-etcd.closing:
		default:
			etcd.errors <- fmt.Errorf("%s ended: %v\n%s", program, err, log.String())
		}
		close(etcd.errors)
		close(etcd.ended)
	}()
	deadline := time.After(startSeconds * time.Second)
	for !healthy(health) {
		select {
		case err := <-etcd.errors:
			return nil, err
		case <-deadline:
			etcd.Close()
			return nil, fmt.Errorf("%s did not answer within %d s:\n%s", program, startSeconds, log.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return etcd, nil
}

func healthy(url string) bool {
	answer, err := http.Get(url + "/health")
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// ReadyNotify is closed: StartEtcd has waited.
func (s *Server) ReadyNotify() <-chan struct{} {
	ready := make(chan struct{})
	close(ready)
	return ready
}

// Stop ends the program.
func (s *Server) Stop() { s.etcd.Close() }

// Cluster is what the server knows of its cluster.
func (s *Server) Cluster() *Server { return s }

// ClientURLs are where clients reach it.
func (s *Server) ClientURLs() []string { return s.urls }

// Err tells why the program ended by itself, and is closed when it was ended by Close.
func (e *Etcd) Err() <-chan error { return e.errors }

// Close ends the program and waits for its end. A test calls it once.
func (e *Etcd) Close() {
	close(e.closing)
	_ = e.process.Process.Kill()
	<-e.ended
}

// healthURL is a free port of this machine.
func healthURL() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return "http://" + listener.Addr().String(), nil
}
