package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

var record = flag.Bool("record", false, "record fixtures from the real Kaniko at $KANIKO_EXECUTOR")

// facts are what a fixture holds about one run of the real Kaniko.
type facts struct {
	ExitCode int `json:"exitCode"`
	// Output is every line that is not a log line of the executor: errors, and
	// what RUN printed.
	Output []string `json:"output"`
	// Usage says that the error is followed by a usage text longer than the
	// 2048 bytes of log that a termination message can hold.
	Usage bool `json:"usageHidesError"`
	// DigestFile is the text of the termination log, with DIGEST for the built
	// image's digest; null if nothing was written.
	DigestFile *string     `json:"digestFile"`
	Layout     *imageFacts `json:"layout,omitempty"`
	Pushed     *imageFacts `json:"pushed,omitempty"`
}

type imageFacts struct {
	ManifestType string       `json:"manifestType"`
	ConfigType   string       `json:"configType"`
	Architecture string       `json:"architecture"`
	OS           string       `json:"os"`
	Created      bool         `json:"hasCreationTime"`
	Config       v1.Config    `json:"config"`
	History      []string     `json:"history"`
	Layers       []layerFacts `json:"layers"`
}

type layerFacts struct {
	Type string `json:"type"`
	// DiffID is set where the layer's bytes depend on nothing but the case:
	// no times, no program of the host.
	DiffID string   `json:"diffID,omitempty"`
	Files  []string `json:"files"`
}

// logLine is a line of the executor's own log; every case runs with text logs
// in colour, as the rendered Job does.
var logLine = regexp.MustCompile(`^\x1b\[\d+m(INFO|WARN|ERRO|DEBU)\x1b\[0m\[\d+\] `)

func (l *lab) facts(t *testing.T, c kase, o outcome) facts {
	t.Helper()
	result := facts{ExitCode: o.code, Output: []string{}}
	usage := 0
	for line := range strings.Lines(o.log) {
		switch {
		case usage > 0 || line == "Usage:\n":
			usage += len(line)
		case line == announcement+"\n", logLine.MatchString(line), strings.HasPrefix(line, "\thttps://docs.docker.com"):
		default:
			result.Output = append(result.Output, l.blank(strings.TrimRight(line, "\n ")))
		}
	}
	result.Usage = usage > 2048
	folder := filepath.Join(o.root, "kaniko/out/oci")
	var digest v1.Hash
	if _, err := os.Stat(filepath.Join(folder, "index.json")); err == nil {
		image := l.built(t, folder)
		digest, err = image.Digest()
		must(t, err)
		result.Layout = l.image(t, c, image)
	}
	if c.pushed != "" {
		tag, err := name.NewTag(l.fill(c.pushed), name.Insecure)
		must(t, err)
		image, err := remote.Image(tag)
		must(t, err)
		digest, err = image.Digest()
		must(t, err)
		result.Pushed = l.image(t, c, image)
	}
	if o.digest != nil {
		text := l.blank(strings.ReplaceAll(*o.digest, digest.String(), "DIGEST"))
		if digest.Hex == "" {
			text = regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAllString(*o.digest, "DIGEST")
		}
		result.DigestFile = &text
	}
	return result
}

// built is the one image of the layout.
func (l *lab) built(t *testing.T, path string) v1.Image {
	t.Helper()
	index, err := layout.ImageIndexFromPath(path)
	must(t, err)
	manifest, err := index.IndexManifest()
	must(t, err)
	if len(manifest.Manifests) != 1 {
		t.Fatalf("the layout holds %d images", len(manifest.Manifests))
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	must(t, err)
	return image
}

func (l *lab) image(t *testing.T, c kase, image v1.Image) *imageFacts {
	t.Helper()
	manifest, err := image.Manifest()
	must(t, err)
	configuration, err := image.ConfigFile()
	must(t, err)
	result := &imageFacts{
		ManifestType: string(manifest.MediaType), ConfigType: string(manifest.Config.MediaType),
		Architecture: configuration.Architecture, OS: configuration.OS,
		Created: !configuration.Created.IsZero(), Config: configuration.Config,
	}
	for _, entry := range configuration.History {
		result.History = append(result.History, entry.CreatedBy)
	}
	layers, err := image.Layers()
	must(t, err)
	for i, layer := range layers {
		contents, err := layer.Uncompressed()
		must(t, err)
		files, hasProgram := l.files(t, contents)
		must(t, contents.Close())
		each := layerFacts{Type: string(manifest.Layers[i].MediaType), Files: files}
		if configuration.Created.IsZero() && !hasProgram {
			diffID, err := layer.DiffID()
			must(t, err)
			each.DiffID = diffID.String()
		}
		result.Layers = append(result.Layers, each)
	}
	return result
}

// files lists a layer as "type mode uid:gid path …", in the layer's order.
func (l *lab) files(t *testing.T, contents io.Reader) (listed []string, hasProgram bool) {
	t.Helper()
	archive := tar.NewReader(contents)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return listed, hasProgram
		}
		must(t, err)
		// The applets depend on the host's busybox.
		if header.Typeflag == tar.TypeSymlink && header.Linkname == "busybox" {
			hasProgram = true
			continue
		}
		line := fmt.Sprintf("%c %04o %d:%d %s", header.Typeflag, header.Mode, header.Uid, header.Gid, header.Name)
		if header.Linkname != "" {
			line += " -> " + header.Linkname
		}
		if header.Typeflag == tar.TypeReg && header.Size > 0 {
			if strings.HasSuffix(header.Name, "/busybox") {
				hasProgram = true
			} else {
				text, err := io.ReadAll(archive)
				must(t, err)
				line += fmt.Sprintf(" %x", sha256.Sum256(text))[:13]
			}
		}
		listed = append(listed, line)
	}
}

// entry is one file of a context or of a base layer.
type entry struct {
	path string
	mode int64
	text string
	link string
	hard string
	uid  int
	gid  int
}

func (e entry) write(t *testing.T, folder string) {
	t.Helper()
	path := filepath.Join(folder, e.path)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	mode := e.mode
	if mode == 0 {
		mode = 0o644
	}
	switch {
	case e.link != "":
		must(t, os.Symlink(e.link, path))
	case e.hard != "":
		must(t, os.Link(filepath.Join(folder, e.hard), path))
	case strings.HasSuffix(e.path, "/"):
		must(t, os.MkdirAll(path, 0o755))
		must(t, os.Chown(path, e.uid, e.gid))
		must(t, syscall.Chmod(path, uint32(mode)))
	default:
		must(t, os.WriteFile(path, []byte(e.text), 0o644))
		must(t, os.Chown(path, e.uid, e.gid))
		must(t, syscall.Chmod(path, uint32(mode)))
	}
}

func archive(t *testing.T, entries []entry) []byte {
	t.Helper()
	var buffer bytes.Buffer
	writer := tar.NewWriter(&buffer)
	for _, each := range entries {
		header := &tar.Header{Name: each.path, Mode: each.mode, Uid: each.uid, Gid: each.gid}
		switch {
		case each.link != "":
			header.Typeflag, header.Linkname, header.Mode = tar.TypeSymlink, each.link, 0o777
		case each.hard != "":
			header.Typeflag, header.Linkname = tar.TypeLink, each.hard
		case strings.HasSuffix(each.path, "/"):
			header.Typeflag = tar.TypeDir
		default:
			header.Typeflag, header.Size = tar.TypeReg, int64(len(each.text))
		}
		must(t, writer.WriteHeader(header))
		_, err := writer.Write([]byte(each.text))
		must(t, err)
	}
	must(t, writer.Close())
	return buffer.Bytes()
}

func fixturePath(name string) string { return filepath.Join("testdata", "fixtures", name+".json") }

func written(t *testing.T, f facts) []byte {
	t.Helper()
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	must(t, encoder.Encode(f))
	return buffer.Bytes()
}
