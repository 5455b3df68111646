package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/sirupsen/logrus"
)

// defaultPath is the environment of an image that has none.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// execute is one build from flags to delivered image.
func execute(opts *options) error {
	if !contained() {
		if !opts.force {
			return errors.New("kaniko should only be run inside of a container, run with the --force flag if you are sure you want to continue")
		}
		logrus.Warn("Kaniko is being run outside of a container. This can have dangerous effects on your system")
	}
	if err := checkPermissions(opts); err != nil {
		logrus.Warn("make sure you entered the correct tag name, that you are authenticated correctly, and try again.")
		return fmt.Errorf("error checking push permissions: %w", err)
	}
	if err := resolveRelative(opts); err != nil {
		return fmt.Errorf("error resolving relative paths to absolute paths: %w", err)
	}
	if err := os.Chdir("/"); err != nil {
		return fmt.Errorf("error changing to root dir: %w", err)
	}
	image, err := build(opts, "/", workDirectory())
	if err != nil {
		return fmt.Errorf("error building image: %w", err)
	}
	if err := deliver(image, opts); err != nil {
		return fmt.Errorf("error pushing image: %w", err)
	}
	return nil
}

// contained keeps a build, which empties the file system it runs on, from
// starting on somebody's machine.
func contained() bool {
	for _, marker := range []string{
		"/run/.containerenv", "/.dockerenv", "/var/run/secrets/kubernetes.io/serviceaccount",
	} {
		if _, err := os.Stat(marker); err == nil {
			return true
		}
	}
	if os.Getenv("container") != "" {
		return true
	}
	if groups, err := os.ReadFile("/proc/self/cgroup"); err == nil {
		if regexp.MustCompile(`docker|kube|lxc|podman`).Match(groups) {
			return true
		}
	}
	mounts, err := os.ReadFile("/proc/mounts")
	return err == nil && regexp.MustCompile(`(?m)^\S+ / overlay`).Match(mounts)
}

// builder builds the stages of one Dockerfile, one after the other, on root.
type builder struct {
	opts    *options
	root    string
	work    string
	skip    ignored
	context sources
	needed  map[int][]string
	last    string
}

func build(opts *options, root, work string) (v1.Image, error) {
	stages, err := parseDockerfile(opts.dockerfile, opts)
	if err != nil {
		return nil, err
	}
	b := &builder{opts: opts, root: root, work: work, last: stages[len(stages)-1].name}
	bases := make([]v1.Image, len(stages))
	for i, each := range stages {
		if each.name != "" {
			logrus.Infof("Resolved base name of %s to %s", each.name, each.base)
		}
		if bases[i], err = b.base(each); err != nil {
			return nil, err
		}
		configuration, err := bases[i].ConfigFile()
		if err != nil {
			return nil, err
		}
		if len(configuration.Config.OnBuild) > 0 {
			return nil, fmt.Errorf("the GoService test stand-in does not run the ONBUILD of %s, run with the real Kaniko", each.base)
		}
	}
	if b.context, err = contextSources(opts.dockerfile, opts.context); err != nil {
		return nil, err
	}
	if b.needed, err = b.dependencies(stages, bases); err != nil {
		return nil, err
	}
	logrus.Infof("Built cross stage deps: %v", b.needed)
	if b.skip, err = findIgnored(work, opts); err != nil {
		return nil, fmt.Errorf("failed to initialize ignore list: %w", err)
	}
	if err := checkSnapshotMode(opts.snapshotMode); err != nil {
		return nil, err
	}
	for i, each := range stages {
		logrus.Infof("Building stage '%v' [idx: '%v', base-idx: '-1']", each.base, each.index)
		image, err := b.stage(each, bases[i])
		if err != nil {
			return nil, fmt.Errorf("error building stage: %w", err)
		}
		if each.final {
			return b.finish(image)
		}
		if err := b.save(each.index); err != nil {
			return nil, err
		}
		logrus.Info("Deleting filesystem...")
		if err := clearFolder(b.root, b.skip); err != nil {
			return nil, fmt.Errorf("deleting file system after stage %d: %w", each.index, err)
		}
	}
	return nil, errors.New("we should always have a final stage")
}

func (b *builder) base(of stage) (v1.Image, error) {
	if of.base == scratch {
		logrus.Info("No base image, nothing to extract")
		return b.typed(empty.Image)
	}
	image, err := b.opts.registry.pull(of.base, b.opts.platform)
	if err != nil {
		return nil, err
	}
	return b.typed(image)
}

// dependencies finds, before anything is built, which files of each stage a
// later COPY --from wants. Paths are expanded with the consuming stage's own
// ARG and ENV.
func (b *builder) dependencies(stages []stage, bases []v1.Image) (map[int][]string, error) {
	needed := map[int][]string{}
	for i, each := range stages {
		configuration, err := bases[i].ConfigFile()
		if err != nil {
			return nil, err
		}
		environment := startingEnvironment(configuration)
		arguments := newScope(b.opts, each, b.last)
		arguments.predefined = nil
		for _, command := range each.commands {
			switch kind := command.(type) {
			case *instructions.CopyCommand:
				if kind.From == "" {
					continue
				}
				number, err := strconv.Atoi(kind.From)
				if err != nil {
					return nil, err
				}
				paths, err := expandPaths(kind.SourcePaths, arguments.environment(environment))
				if err != nil {
					return nil, err
				}
				needed[number] = append(needed[number], paths...)
			case *instructions.EnvCommand:
				if environment, err = arguments.setEnvironment(kind, environment); err != nil {
					return nil, err
				}
			case *instructions.ArgCommand:
				if err := arguments.declare(kind, environment); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, paths := range needed {
		sort.Strings(paths)
	}
	return needed, nil
}

func startingEnvironment(configuration *v1.ConfigFile) []string {
	if configuration.Config.Env == nil {
		return []string{defaultPath}
	}
	return configuration.Config.Env
}

// needsFiles says that an instruction works on the file system.
func needsFiles(command instructions.Command) bool {
	switch kind := command.(type) {
	case *instructions.RunCommand, *instructions.CopyCommand:
		return true
	case *instructions.WorkdirCommand:
		return kind.Path != "/"
	default:
		return false
	}
}

// stage runs the instructions of one stage. Layers are written for the final
// stage only, since nothing reads those of another.
func (b *builder) stage(of stage, image v1.Image) (v1.Image, error) {
	original, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	config := original.DeepCopy().Config
	config.Env = append([]string{}, startingEnvironment(original)...)
	config.OnBuild = nil
	if of.final {
		if err := addLabels(&config, b.opts.labels); err != nil {
			return nil, err
		}
	}
	unpacks := len(b.needed[of.index]) > 0
	for _, command := range of.commands {
		if needsFiles(command) {
			logrus.Infof("Unpacking rootfs as cmd %s requires it.", commandText(command))
			unpacks = true
			break
		}
	}
	if unpacks {
		err := retry(b.opts.extractRetry, func() error { return unpack(image, b.root, b.skip) })
		if err != nil {
			return nil, fmt.Errorf("failed to get filesystem from image: %w", err)
		}
	} else {
		logrus.Info("Skipping unpacking as no commands require it.")
	}
	taken := newSnapshots(b.root, b.work, b.opts.snapshotMode, b.skip)
	arguments := newScope(b.opts, of, b.last)
	for _, command := range of.commands {
		if copying, is := command.(*instructions.CopyCommand); is {
			// Kaniko looks at the sources before it names the step in its log.
			if _, err := b.copySources(copying, arguments.environment(config.Env)); err != nil {
				return nil, fmt.Errorf("failed to get files used from context: %w", err)
			}
		}
		logrus.Info(commandText(command))
		if _, runs := command.(*instructions.RunCommand); runs && of.final && !taken.scanned {
			logrus.Info("Initializing snapshotter ...")
			if err := taken.first(); err != nil {
				return nil, err
			}
		}
		written, err := b.instruction(command, &config, arguments)
		if err != nil {
			return nil, fmt.Errorf("failed to execute command: %w", err)
		}
		if !of.final || !needsFiles(command) {
			continue
		}
		layer, err := b.layer(taken, written)
		if err != nil {
			return nil, fmt.Errorf("failed to take snapshot: %w", err)
		}
		image, err = mutate.Append(image, mutate.Addendum{
			Layer: layer, History: v1.History{Author: "kaniko", CreatedBy: commandText(command)},
		})
		if err != nil {
			return nil, fmt.Errorf("failed to save snapshot to image: %w", err)
		}
	}
	clearInheritedCommand(of.commands, &config)
	return mutate.Config(image, config)
}

func commandText(command instructions.Command) string {
	if text, is := command.(fmt.Stringer); is {
		return text.String()
	}
	return command.Name()
}

// layer snapshots what an instruction wrote; nil means that only a look at the
// whole file system can tell.
func (b *builder) layer(taken *snapshots, written []string) (v1.Layer, error) {
	var path string
	var err error
	if written == nil {
		logrus.Info("Taking snapshot of full filesystem...")
		path, err = taken.ofChanges()
	} else {
		logrus.Info("Taking snapshot of files...")
		path, err = taken.ofFiles(written)
	}
	if err != nil {
		return nil, err
	}
	var choices []tarball.LayerOption
	if b.opts.compressedCaching {
		choices = append(choices, tarball.WithCompressedCaching)
	}
	if b.opts.compressionLevel > 0 {
		choices = append(choices, tarball.WithCompressionLevel(b.opts.compressionLevel))
	}
	if b.opts.imageFormat.value == "oci" {
		choices = append(choices, tarball.WithMediaType(types.OCILayer))
	}
	return tarball.LayerFromFile(path, choices...)
}

// save keeps what later stages copy from this one, where deleting the file
// system does not reach.
func (b *builder) save(index int) error {
	folder := filepath.Join(b.work, "deps", strconv.Itoa(index))
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return fmt.Errorf("to create workspace for stage %d: %w", index, err)
	}
	// A folder that is kept anyway takes everything below it along.
	kept := map[string]bool{}
	for _, pattern := range b.needed[index] {
		found, err := filepath.Glob(filepath.Join(b.root, pattern))
		if err != nil {
			return err
		}
		for _, path := range found {
			kept[path] = true
			if information, err := os.Lstat(path); err == nil && isLink(information) {
				if target, err := filepath.EvalSymlinks(path); err == nil && below(target, b.root) {
					kept[target] = true
				}
			}
		}
	}
	for path := range kept {
		if kept[filepath.Dir(path)] && filepath.Dir(path) != path {
			continue
		}
		relative, err := filepath.Rel(b.root, path)
		if err != nil {
			return err
		}
		logrus.Infof("Saving file %s for later use", relative)
		executor := func(each string) bool { return each == b.work }
		if err := copyTree(path, filepath.Join(folder, relative), executor); err != nil {
			return fmt.Errorf("could not save file: %w", err)
		}
	}
	return nil
}
