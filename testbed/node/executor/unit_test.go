package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// These tests need neither root nor namespaces.

func TestUnknownFlagIsRefusedInKanikosWords(t *testing.T) {
	var output bytes.Buffer
	command := rootCommand()
	command.SetArgs([]string{"--no-such-flag"})
	command.SetErr(&output)
	command.SetOut(&output)
	err := command.Execute()
	if err == nil || exitCode(err) != 1 {
		t.Fatalf("got %v", err)
	}
	if !strings.HasPrefix(output.String(), "Error: unknown flag: --no-such-flag\nUsage:\n") {
		t.Error(output.String())
	}
}

func TestEveryFlagOfTheRenderedJobIsTaken(t *testing.T) {
	flags := rootCommand().Flags()
	for _, flag := range append(jobFlags(),
		"--image-download-retry=3", "--image-fs-extract-retry=2", "--registry-mirror=a", "--registry-map=a=b;c=d",
		"--skip-tls-verify-registry=a", "--registry-certificate=a=/b", "--build-arg=A=1", "--label=a=b,c",
		"--log-format=text", "--verbosity=info", "--push-retry=3", "--skip-push-permission-check",
	) {
		if err := flags.Parse([]string{flag}); err != nil {
			t.Errorf("%s: %v", flag, err)
		}
	}
}

func TestFlagsThatAreNotHonouredNameTheStandIn(t *testing.T) {
	for _, flag := range []string{"--cache", "--tar-path=/x", "--git=branch=main", "--secret=id=x", "--push-ignore-immutable-tag-errors"} {
		command, opts := rootCommand(), &options{verbosity: "info", logFormat: "text"}
		if err := command.Flags().Parse([]string{flag}); err != nil {
			t.Fatal(err)
		}
		err := prepare(command, opts)
		if err == nil || !strings.Contains(err.Error(), "test stand-in does not honour") {
			t.Errorf("%s: got %v", flag, err)
		}
	}
}

func TestInstructionsOutsideTheSubsetAreRefused(t *testing.T) {
	for _, text := range []string{
		"FROM scratch\nADD a /a\n", "FROM scratch\nVOLUME /v\n", "FROM scratch\nHEALTHCHECK NONE\n",
		"FROM scratch\nSHELL [\"/bin/ash\"]\n", "FROM scratch\nSTOPSIGNAL 9\n", "FROM scratch\nONBUILD RUN x\n",
		"FROM scratch\nRUN --mount=type=cache,target=/c true\n", "FROM scratch\nRUN <<EOF\ntrue\nEOF\n",
		"FROM scratch\nCOPY <<EOF /f\nx\nEOF\n", "FROM scratch\nCOPY --link a /a\n", "FROM scratch\nCOPY --chmod=1 a /a\n",
		"FROM --platform=linux/arm64 scratch\n", "FROM scratch AS a\nFROM a\n", "FROM scratch\nCOPY --from=image:1 /a /a\n",
	} {
		path := filepath.Join(t.TempDir(), "Dockerfile")
		must(t, os.WriteFile(path, []byte(text), 0o644))
		_, err := parseDockerfile(path, &options{})
		if err == nil || !strings.Contains(err.Error(), "test stand-in does not") {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

func TestOnlyStagesInUseAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Dockerfile")
	text := "FROM scratch AS a\nFROM scratch AS unused\nFROM scratch AS c\nCOPY --from=A /x /x\nFROM scratch\nCOPY --from=c /x /x\n"
	must(t, os.WriteFile(path, []byte(text), 0o644))
	stages, err := parseDockerfile(path, &options{})
	must(t, err)
	var kept []int
	for _, each := range stages {
		kept = append(kept, each.index)
	}
	if !slices.Equal(kept, []int{0, 2, 3}) {
		t.Errorf("got %v", kept)
	}
}

func TestIgnoredPaths(t *testing.T) {
	skip := ignored{"/kaniko", "/etc/hosts", "/run/secrets"}
	for path, wanted := range map[string][3]bool{
		// covers, within, names
		"/kaniko":          {true, true, true},
		"/kaniko/executor": {true, false, false},
		"/kaniko2":         {false, false, false},
		"/etc":             {false, true, false},
		"/run/secrets/x/y": {true, false, false},
		"/":                {false, true, false},
		"/etc/passwd":      {false, false, false},
	} {
		got := [3]bool{skip.covers(path), skip.within(path), skip.names(path)}
		if got != wanted {
			t.Errorf("%s: got %v, want %v", path, got, wanted)
		}
	}
}

func TestMountPointsAreRead(t *testing.T) {
	table := filepath.Join(t.TempDir(), "mountinfo")
	must(t, os.WriteFile(table, []byte(
		"1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 0:5 / /proc rw - proc proc rw\n3 1 8:1 /x /etc/hosts rw - ext4 /dev/a rw\n"), 0o644))
	points, err := mountPoints(table)
	must(t, err)
	if !slices.Equal(points, []string{"/proc", "/etc/hosts"}) {
		t.Errorf("got %v", points)
	}
}

func TestDigestFileIsTruncatedInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "digest")
	must(t, writeDigest(path, "a much longer text than what follows"))
	before, err := os.Stat(path)
	must(t, err)
	must(t, writeDigest(path, "sha256:1"))
	after, err := os.Stat(path)
	must(t, err)
	text, err := os.ReadFile(path)
	must(t, err)
	if string(text) != "sha256:1" || !os.SameFile(before, after) {
		t.Errorf("got %q", text)
	}
}

func TestFixturesAndCasesBelongTogether(t *testing.T) {
	files, err := filepath.Glob(fixturePath("*"))
	must(t, err)
	known := map[string]bool{}
	for _, c := range cases {
		if known[fixturePath(c.name)] {
			t.Errorf("two cases are called %s", c.name)
		}
		known[fixturePath(c.name)] = true
		if _, err := os.Stat(fixturePath(c.name)); err != nil {
			t.Errorf("%s: no fixture is recorded", c.name)
		}
	}
	for _, path := range files {
		if !known[path] {
			t.Errorf("%s belongs to no case", path)
		}
	}
}
