// Command sample is a small web service that tells what it can see of its own surroundings.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
)

// version is set when the program is linked.
var version = "unknown"

var instance = uuid.NewString()

type zone struct {
	Name   string `json:"name"`
	Offset int    `json:"offset"`
}

type report struct {
	Version      string            `json:"version"`
	Instance     string            `json:"instance"`
	Hostname     string            `json:"hostname"`
	Go           string            `json:"go"`
	UID          int               `json:"uid"`
	GID          int               `json:"gid"`
	CapEff       string            `json:"capEff"`
	NoNewPrivs   string            `json:"noNewPrivs"`
	Seccomp      string            `json:"seccomp"`
	RootWritable bool              `json:"rootWritable"`
	TmpWritable  bool              `json:"tmpWritable"`
	GoMaxProcs   int               `json:"goMaxProcs"`
	Environment  map[string]string `json:"environment"`
	Arguments    []string          `json:"arguments"`
	Time         string            `json:"time"`
	Location     string            `json:"location"`
	Winter       zone              `json:"winter"`
	Summer       zone              `json:"summer"`
	Pacific      string            `json:"pacific"`
}

func processStatus() map[string]string {
	values := map[string]string{}
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return values
	}
	for _, line := range strings.Split(string(text), "\n") {
		if name, value, found := strings.Cut(line, ":"); found {
			values[name] = strings.TrimSpace(value)
		}
	}
	return values
}

func writable(folder string) bool {
	file, err := os.CreateTemp(folder, "probe")
	if err != nil {
		return false
	}
	file.Close()
	return os.Remove(file.Name()) == nil
}

func zoneOf(month time.Month) zone {
	name, offset := time.Date(2026, month, 15, 12, 0, 0, 0, time.Local).Zone()
	return zone{name, offset}
}

func look() report {
	status := processStatus()
	hostname, _ := os.Hostname()
	environment := map[string]string{}
	for _, name := range []string{"PORT", "GOMEMLIMIT", "GOMAXPROCS", "GODEBUG", "TZ", "GREETING"} {
		if value, set := os.LookupEnv(name); set {
			environment[name] = value
		}
	}
	pacific := "unknown zone"
	if location, err := time.LoadLocation("US/Pacific"); err == nil {
		pacific = time.Date(2026, time.January, 15, 12, 0, 0, 0, time.UTC).In(location).Format(time.RFC3339)
	}
	return report{
		Version: version, Instance: instance, Hostname: hostname, Go: runtime.Version(),
		UID: os.Getuid(), GID: os.Getgid(),
		CapEff: status["CapEff"], NoNewPrivs: status["NoNewPrivs"], Seccomp: status["Seccomp"],
		RootWritable: writable("/"), TmpWritable: writable("/tmp"),
		GoMaxProcs: runtime.GOMAXPROCS(0), Environment: environment, Arguments: os.Args[1:],
		Time: time.Now().Format(time.RFC3339), Location: time.Local.String(),
		Winter: zoneOf(time.January), Summer: zoneOf(time.July), Pacific: pacific,
	}
}

func burn(writer http.ResponseWriter, request *http.Request) {
	milliseconds, err := strconv.Atoi(request.URL.Query().Get("ms"))
	if err != nil || milliseconds < 0 || milliseconds > 60_000 {
		http.Error(writer, "ms must be a number from 0 to 60000", http.StatusBadRequest)
		return
	}
	rounds := 0
	for until := time.Now().Add(time.Duration(milliseconds) * time.Millisecond); time.Now().Before(until); {
		rounds++
	}
	_, _ = writer.Write([]byte(strconv.Itoa(rounds) + "\n"))
}

func main() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(writer http.ResponseWriter, _ *http.Request) {
		writer.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(writer)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(look())
	})
	mux.HandleFunc("GET /healthz", func(writer http.ResponseWriter, _ *http.Request) {
		_, _ = writer.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /burn", burn)

	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	server := &http.Server{Addr: ":" + port, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stop, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	go func() {
		<-stop.Done()
		drain, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		_ = server.Shutdown(drain)
	}()
	log.Printf("sample %s listens on port %s", version, port)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
