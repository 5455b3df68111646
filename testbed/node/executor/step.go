package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/sirupsen/logrus"
)

// instruction executes one instruction and names the paths it wrote, or nil
// for RUN, which may have written anywhere.
func (b *builder) instruction(command instructions.Command, config *v1.Config, arguments *scope) ([]string, error) {
	visible := arguments.environment(config.Env)
	switch kind := command.(type) {
	case *instructions.RunCommand:
		return nil, run(kind, config, visible)
	case *instructions.CopyCommand:
		return b.copy(kind, config, visible)
	case *instructions.WorkdirCommand:
		return b.workdir(kind, config, visible)
	case *instructions.ArgCommand:
		return nil, arguments.declare(kind, config.Env)
	case *instructions.EnvCommand:
		var err error
		config.Env, err = arguments.setEnvironment(kind, config.Env)
		return nil, err
	case *instructions.UserCommand:
		var err error
		config.User, err = expandWord(kind.User, visible)
		return nil, err
	case *instructions.LabelCommand:
		for _, pair := range kind.Labels {
			key, err := expandWord(pair.Key, visible)
			if err != nil {
				return nil, err
			}
			value, err := expandWord(pair.Value, visible)
			if err != nil {
				return nil, err
			}
			logrus.Infof("Applying label %s=%s", key, value)
			setLabel(config, key, value)
		}
		return nil, nil
	case *instructions.EntrypointCommand:
		config.Entrypoint = commandWords(kind.ShellDependantCmdLine, config)
		return nil, nil
	case *instructions.CmdCommand:
		config.Cmd = commandWords(kind.ShellDependantCmdLine, config)
		return nil, nil
	case *instructions.ExposeCommand:
		return nil, expose(kind, config, visible)
	default:
		return nil, unsupportedAt(strings.ToUpper(command.Name()), command.Location())
	}
}

func commandWords(line instructions.ShellDependantCmdLine, config *v1.Config) []string {
	if !line.PrependShell {
		return line.CmdLine
	}
	interpreter := config.Shell
	if len(interpreter) == 0 {
		interpreter = []string{"/bin/sh", "-c"}
	}
	return append(append([]string{}, interpreter...), strings.Join(line.CmdLine, " "))
}

func expose(command *instructions.ExposeCommand, config *v1.Config, visible []string) error {
	ports := map[string]struct{}{}
	for port := range config.ExposedPorts {
		ports[port] = struct{}{}
	}
	for _, text := range command.Ports {
		port, err := expandWord(text, visible)
		if err != nil {
			return err
		}
		number, protocol, found := strings.Cut(port, "/")
		if !found {
			protocol = "tcp"
		}
		if protocol != "tcp" && protocol != "udp" {
			return fmt.Errorf("invalid protocol: %s", protocol)
		}
		ports[number+"/"+protocol] = struct{}{}
	}
	config.ExposedPorts = ports
	return nil
}

// copied is what a COPY reads and where it goes.
type copied struct {
	from        sources
	paths       []string
	destination string
}

// copySources resolves variables and wildcards of a COPY and refuses a source
// that is missing.
func (b *builder) copySources(command *instructions.CopyCommand, visible []string) (copied, error) {
	result := copied{from: b.context}
	if command.From != "" {
		result.from = sources{root: filepath.Join(b.work, "deps", command.From)}
	}
	paths, err := expandPaths(command.SourcePaths, visible)
	if err != nil {
		return result, fmt.Errorf("failed to resolve environment: %w", err)
	}
	destination, err := expandPath(command.DestPath, visible)
	if err != nil {
		return result, fmt.Errorf("failed to resolve environment for dest path: %w", err)
	}
	result.destination = b.inRoot(destination)
	if result.paths, err = result.from.matches(paths); err != nil {
		return result, fmt.Errorf("failed to resolve sources: %w", err)
	}
	return result, result.from.check(result.paths, result.destination)
}

// inRoot is an absolute path of the image below root; a trailing slash stays.
func (b *builder) inRoot(path string) string {
	if b.root == "/" || !filepath.IsAbs(path) {
		return path
	}
	isFolder := strings.HasSuffix(path, "/")
	path = filepath.Join(b.root, path)
	if isFolder {
		path += "/"
	}
	return path
}

func (b *builder) copy(command *instructions.CopyCommand, config *v1.Config, visible []string) ([]string, error) {
	uid, gid := 0, 0
	if command.From != "" {
		uid, gid = keep, keep
	} else if config.User != "" && !feature(copyAsRoot) {
		var err error
		if uid, gid, err = owners(config.User); err != nil {
			return nil, fmt.Errorf("getting user group from chown: identifying uid and gid for user %s: %w", config.User, err)
		}
	}
	if command.Chown != "" {
		text, err := expandWord(command.Chown, visible)
		if err != nil {
			return nil, err
		}
		if uid, gid, err = owners(text); err != nil {
			return nil, fmt.Errorf("getting user group from chown: %w", err)
		}
	}
	what, err := b.copySources(command, visible)
	if err != nil {
		return nil, fmt.Errorf("resolving src: %w", err)
	}
	copying := copier{from: what.from, skip: b.skip, work: b.work, uid: uid, gid: gid}
	for _, path := range what.paths {
		if err := copying.copy(path, what.destination, filepath.Join(b.root, config.WorkingDir)); err != nil {
			return nil, err
		}
	}
	return copying.written, nil
}

func (b *builder) workdir(command *instructions.WorkdirCommand, config *v1.Config, visible []string) ([]string, error) {
	path, err := expandPath(command.Path, visible)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join("/", config.WorkingDir, path)
	}
	config.WorkingDir = path
	logrus.Infof("Changed working directory to %s", path)
	real := filepath.Join(b.root, path)
	if _, err := os.Stat(real); !errors.Is(err, os.ErrNotExist) {
		return []string{}, nil
	}
	uid, gid := 0, 0
	if config.User != "" {
		if uid, gid, err = owners(config.User); err != nil {
			return nil, fmt.Errorf("getting user group: identifying uid and gid for user %s: %w", config.User, err)
		}
	}
	logrus.Infof("Creating directory %s with uid %d and gid %d", path, uid, gid)
	if err := makeDirectory(real, 0o755, uid, gid); err != nil {
		return nil, fmt.Errorf("creating workdir %s: %w", path, err)
	}
	return []string{real}, nil
}
