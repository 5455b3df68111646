package main

import (
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// proxies may be given by --build-arg without an ARG that declares them.
var proxies = []string{
	"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy",
	"NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy",
}

// scope holds the build arguments of one stage.
type scope struct {
	given      map[string]string
	meta       map[string]*string
	predefined map[string]string
	declared   map[string]*string
}

func newScope(opts *options, of stage, lastName string) *scope {
	s := &scope{
		given: map[string]string{}, meta: map[string]*string{}, declared: map[string]*string{},
	}
	for _, argument := range opts.buildArgs {
		key, value, _ := strings.Cut(argument, "=")
		s.given[key] = value
	}
	for _, command := range of.meta {
		for _, argument := range command.Args {
			s.meta[argument.Key] = argument.Value
		}
	}
	if lastName == "" {
		lastName = "default"
	}
	build := runtime.GOOS + "/" + runtime.GOARCH
	s.predefined = map[string]string{
		"BUILDPLATFORM": build, "BUILDOS": runtime.GOOS, "BUILDARCH": runtime.GOARCH, "BUILDVARIANT": "",
		"TARGETPLATFORM": opts.platform, "TARGETSTAGE": lastName, "TARGETVARIANT": "",
	}
	s.predefined["TARGETOS"], s.predefined["TARGETARCH"], _ = strings.Cut(opts.platform, "/")
	return s
}

// value is an argument's value, if it has one: --build-arg, then its default,
// then the ARG before FROM of the same name, then the predefined one.
func (s *scope) value(key string) (string, bool) {
	standard, isDeclared := s.declared[key]
	if given, found := s.given[key]; found {
		return given, true
	}
	if standard != nil {
		return *standard, true
	}
	if meta := s.meta[key]; meta != nil {
		return *meta, true
	}
	if predefined, found := s.predefined[key]; found && isDeclared {
		return predefined, true
	}
	return "", false
}

// environment is what an instruction sees: the image's environment, overridden
// by the declared arguments.
func (s *scope) environment(image []string) []string {
	values := map[string]string{}
	for _, entry := range image {
		key, value, _ := strings.Cut(entry, "=")
		values[key] = value
	}
	keys := append([]string{}, proxies...)
	for key := range s.declared {
		keys = append(keys, key)
	}
	for _, key := range keys {
		if value, found := s.value(key); found {
			values[key] = value
		}
	}
	entries := make([]string, 0, len(values))
	for key, value := range values {
		entries = append(entries, key+"="+value)
	}
	sort.Strings(entries)
	return entries
}

func (s *scope) declare(command *instructions.ArgCommand, image []string) error {
	for _, argument := range command.Args {
		visible := s.environment(image)
		key, err := expandWord(argument.Key, visible)
		if err != nil {
			return err
		}
		var value *string
		if argument.Value != nil {
			expanded, err := expandWord(*argument.Value, visible)
			if err != nil {
				return err
			}
			value = &expanded
		}
		s.declared[key] = value
	}
	return nil
}

// setEnvironment applies ENV. An ENV after an ARG of the same name overrides
// it.
func (s *scope) setEnvironment(command *instructions.EnvCommand, image []string) ([]string, error) {
	visible := s.environment(image)
	result := append([]string{}, image...)
	for _, pair := range command.Env {
		key, err := expandWord(pair.Key, visible)
		if err != nil {
			return nil, err
		}
		value, err := expandWord(pair.Value, visible)
		if err != nil {
			return nil, err
		}
		result = replaceEntry(result, key, value)
		delete(s.declared, pair.Key)
	}
	return result, nil
}

func replaceEntry(entries []string, key, value string) []string {
	for i, entry := range entries {
		if name, _, _ := strings.Cut(entry, "="); name == key {
			entries[i] = key + "=" + value
			return entries
		}
	}
	return append(entries, key+"="+value)
}

// expandWord replaces variables and removes quotes as BuildKit's shell lexer
// does.
func expandWord(word string, environment []string) (string, error) {
	result, _, err := shell.NewLex(parser.DefaultEscapeToken).ProcessWord(word, shell.EnvsFromSlice(environment))
	return result, err
}

// expandPath expands a word and cleans it, keeping the trailing slash that
// makes it a folder.
func expandPath(word string, environment []string) (string, error) {
	path, err := expandWord(word, environment)
	if err != nil {
		return "", err
	}
	isFolder := strings.HasSuffix(path, "/")
	path = filepath.Clean(path)
	if isFolder && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	return path, nil
}

func expandPaths(words, environment []string) ([]string, error) {
	paths := make([]string, 0, len(words))
	for _, word := range words {
		path, err := expandPath(word, environment)
		if err != nil {
			return nil, err
		}
		paths = append(paths, path)
	}
	return paths, nil
}
