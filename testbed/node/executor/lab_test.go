package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"golang.org/x/sys/unix"
)

// The lab runs an executor as the build pod runs it: in its own mount and pid
// namespaces, over a root of its own, with the pod's seven capabilities and no
// new privileges. Stand-in and real Kaniko go through the same lab.

const roomVariable = "EXECUTOR_LAB_ROOM"

// room is one run: what is mounted where, and the command line.
type room struct {
	Root        string
	Binds       map[string]string
	Arguments   []string
	Environment []string
}

// podCapabilities are those that the rendered Job adds to the build container.
var podCapabilities = []uintptr{
	unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_SETGID, unix.CAP_SETUID,
	unix.CAP_SETFCAP, unix.CAP_KILL,
}

func TestMain(m *testing.M) {
	if text := os.Getenv(roomVariable); text != "" {
		fmt.Fprintln(os.Stderr, enterRoom(text))
		os.Exit(125)
	}
	os.Exit(m.Run())
}

// enterRoom runs as process 1 of the new namespaces and becomes the executor.
func enterRoom(text string) error {
	var r room
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	for target, source := range r.Binds {
		if err := unix.Mount(source, filepath.Join(r.Root, target), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("bind %s: %w", target, err)
		}
	}
	if err := unix.Mount("proc", filepath.Join(r.Root, "proc"), "proc", 0, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	kept := map[uintptr]bool{}
	for _, capability := range podCapabilities {
		kept[capability] = true
	}
	for capability := uintptr(0); capability <= unix.CAP_LAST_CAP; capability++ {
		if kept[capability] {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("capability %d: %w", capability, err)
		}
	}
	if err := unix.Chroot(r.Root); err != nil {
		return err
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	return unix.Exec("/kaniko/executor", append([]string{"/kaniko/executor"}, r.Arguments...), r.Environment)
}

// lab has what all runs share: the executor under test, a registry and a base
// image.
type lab struct {
	executor string
	host     string
	// secure is the same registry behind TLS, with a certificate of its own.
	secure      string
	certificate []byte
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: the executor runs as uid 0 in namespaces of its own")
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs a static busybox (Debian package busybox-static) for the base image")
	}
	probe := exec.Command("/bin/true")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if err := probe.Run(); err != nil {
		t.Skipf("needs mount and pid namespaces: %v", err)
	}
	l := &lab{executor: os.Getenv("KANIKO_EXECUTOR")}
	if !*record {
		l.executor = filepath.Join(t.TempDir(), "executor")
		compile := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", l.executor, ".")
		compile.Env = append(os.Environ(), "CGO_ENABLED=0")
		if output, err := compile.CombinedOutput(); err != nil {
			t.Fatalf("go build: %v\n%s", err, output)
		}
	}
	quiet := log.New(io.Discard, "", 0)
	handler := guarded(registry.New(registry.Logger(quiet)))
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	l.host = strings.TrimPrefix(server.URL, "http://")
	secure := httptest.NewUnstartedServer(handler)
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	t.Cleanup(secure.Close)
	l.secure = strings.TrimPrefix(secure.URL, "https://")
	l.certificate = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
	l.pushBase(t, busybox)
	return l
}

// guarded refuses what a registry refuses: pushes to denied/…, and everything
// under private/….
func guarded(next http.Handler) http.Handler {
	refuse := func(w http.ResponseWriter, status int, code, message string) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q}]}`, code, message)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads := r.Method == http.MethodGet || r.Method == http.MethodHead
		switch {
		case strings.HasPrefix(r.URL.Path, "/v2/denied/") && !reads:
			refuse(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied")
		case strings.HasPrefix(r.URL.Path, "/v2/private/"):
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func (l *lab) pushBase(t *testing.T, busybox string) {
	t.Helper()
	program, err := os.ReadFile(busybox)
	if err != nil {
		t.Fatal(err)
	}
	listed, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	entries := []entry{
		{path: "bin/", mode: 0o755},
		{path: "bin/busybox", mode: 0o755, text: string(program)},
		{path: "etc/", mode: 0o755},
		{path: "etc/passwd", mode: 0o644, text: "root:x:0:0:root:/root:/bin/sh\n"},
		{path: "etc/group", mode: 0o644, text: "root:x:0:\n"},
		{path: "etc/ssl/certs/", mode: 0o755},
		{path: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, text: "certificates\n"},
		{path: "etc/link", link: "passwd"},
		{path: "tmp/", mode: 0o1777},
		{path: "root/", mode: 0o700},
		{path: "opt/tool", mode: 0o4755, text: "setuid\n"},
		{path: "opt/hard", hard: "opt/tool"},
		{path: "var/lib/old/", mode: 0o755, uid: 7, gid: 8},
		{path: "var/lib/old/a", mode: 0o640, uid: 7, gid: 8, text: "a\n"},
		{path: "var/lib/old/b", mode: 0o640, uid: 7, gid: 8, text: "b\n"},
	}
	for _, applet := range strings.Fields(string(listed)) {
		if applet != "busybox" {
			entries = append(entries, entry{path: "bin/" + applet, link: "busybox"})
		}
	}
	upper := []entry{{path: "var/lib/old/.wh.b", mode: 0o644}, {path: "var/lib/new", mode: 0o600, text: "new\n"}}
	image := v1.Image(empty.Image)
	for _, each := range [][]entry{entries, upper} {
		contents := archive(t, each)
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(contents)), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if image, err = mutate.AppendLayers(image, layer); err != nil {
			t.Fatal(err)
		}
	}
	configuration, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	configuration = configuration.DeepCopy()
	configuration.OS, configuration.Architecture = "linux", "amd64"
	configuration.Config = v1.Config{
		Env: []string{"PATH=/usr/local/bin:/bin", "BASE=yes"}, Cmd: []string{"/bin/sh"},
		Labels: map[string]string{"base": "busybox"},
	}
	if image, err = mutate.ConfigFile(image, configuration); err != nil {
		t.Fatal(err)
	}
	for _, repository := range []string{"base", "mirror/base", "mirror/library/base"} {
		tag, err := name.NewTag(l.host+"/"+repository+":1", name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(tag, image); err != nil {
			t.Fatal(err)
		}
	}
}

// outcome is what one run left behind.
type outcome struct {
	code   int
	log    string
	digest *string
	root   string
}

// run puts one case through the executor in a fresh root.
func (l *lab) run(t *testing.T, c kase) outcome {
	t.Helper()
	root, mounts := t.TempDir(), t.TempDir()
	for _, folder := range []string{
		"kaniko/df", "kaniko/buildcontext", "kaniko/out", "proc", "sys", "dev", "etc", "gocache",
	} {
		must(t, os.MkdirAll(filepath.Join(root, folder), 0o755))
	}
	must(t, os.Chmod(filepath.Join(root, "kaniko"), 0o777))
	binds := map[string]string{"/dev/null": "/dev/null"}
	mount := func(target string, folder bool) string {
		source := filepath.Join(mounts, strings.ReplaceAll(target, "/", "_"))
		if folder {
			must(t, os.Mkdir(source, 0o755))
		} else {
			must(t, os.WriteFile(source, nil, 0o666))
			must(t, os.WriteFile(filepath.Join(root, target), nil, 0o644))
		}
		binds[target] = source
		return source
	}
	must(t, os.WriteFile(filepath.Join(root, "dev/null"), nil, 0o644))
	mount("/etc/hosts", false)
	mount("/etc/resolv.conf", false)
	digest := mount("/dev/termination-log", false)
	mount("/gocache", true)
	context := mount("/kaniko/buildcontext", true)
	files := mount("/kaniko/df", true)
	must(t, os.WriteFile(filepath.Join(files, "Dockerfile"), []byte(l.fill(c.dockerfile)), 0o644))
	must(t, os.WriteFile(filepath.Join(files, "registry.pem"), l.certificate, 0o644))
	if c.dockerignore != "" {
		must(t, os.WriteFile(filepath.Join(files, "Dockerfile.dockerignore"), []byte(c.dockerignore), 0o644))
	}
	for _, each := range c.context {
		each.write(t, context)
	}
	program, err := os.ReadFile(l.executor)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "kaniko/executor"), program, 0o755))

	environment := []string{
		"container=kube", "HOME=/root", "USER=root", "PATH=/usr/local/bin:/kaniko",
		"DOCKER_CONFIG=/kaniko/.docker/", "SSL_CERT_DIR=/kaniko/ssl/certs",
		"FF_KANIKO_COPY_AS_ROOT=true", "FF_KANIKO_RUN_HONOR_GROUP=true",
	}
	var text strings.Builder
	arguments := c.arguments()
	for i := range arguments {
		arguments[i] = l.fill(arguments[i])
	}
	code := l.enter(t, &text, room{Root: root, Binds: binds, Arguments: arguments, Environment: environment})
	result := outcome{code: code, log: text.String(), root: root}
	if written, err := os.ReadFile(digest); err == nil && len(written) > 0 {
		value := string(written)
		result.digest = &value
	}
	return result
}

func (l *lab) enter(t *testing.T, output io.Writer, r room) int {
	t.Helper()
	text, err := json.Marshal(r)
	must(t, err)
	process := exec.Command("/proc/self/exe")
	process.Env = []string{roomVariable + "=" + string(text)}
	process.Stdout, process.Stderr = output, output
	process.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	must(t, process.Start())
	stuck := time.AfterFunc(time.Minute, func() { _ = process.Process.Kill() })
	defer stuck.Stop()
	err = process.Wait()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	return process.ProcessState.ExitCode()
}

// fill puts the registry's addresses where a case says REGISTRY or SECURE.
func (l *lab) fill(text string) string {
	return strings.NewReplacer("REGISTRY", l.host, "SECURE", l.secure).Replace(text)
}

// blank undoes fill, so that what is recorded names no port.
func (l *lab) blank(text string) string {
	return strings.NewReplacer(l.host, "REGISTRY", l.secure, "SECURE").Replace(text)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
