package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"
)

// prepare checks the flags and resolves context and Dockerfile. Its errors are
// usage errors: Kaniko prints them with "Error: " and the usage text.
func prepare(command *cobra.Command, opts *options) error {
	if err := configureLog(opts.verbosity, opts.logFormat, opts.logTime); err != nil {
		return err
	}
	if err := refuseUnhonoured(command.Flags()); err != nil {
		return err
	}
	logFeatures()
	if err := environmentOptions(opts); err != nil {
		return err
	}
	for i, argument := range opts.buildArgs {
		if !strings.Contains(argument, "=") {
			opts.buildArgs[i] = argument + "=" + os.Getenv(argument)
		}
	}
	if !opts.noPush && len(opts.destinations) == 0 {
		return errors.New("you must provide --destination, or use --no-push")
	}
	if opts.compression.value == "zstd" {
		return errors.New("the GoService test stand-in does not honour --compression=zstd, run with the real Kaniko")
	}
	if err := resolveContext(opts); err != nil {
		return fmt.Errorf("error resolving source context: %w", err)
	}
	if err := resolveDockerfile(opts); err != nil {
		return fmt.Errorf("error resolving dockerfile path: %w", err)
	}
	if len(opts.destinations) == 0 && opts.imageNameDigestFile != "" {
		return errors.New("you must provide --destination if setting ImageNameDigestFile")
	}
	if len(opts.destinations) == 0 && opts.imageTagDigestFile != "" {
		return errors.New("you must provide --destination if setting ImageNameTagDigestFile")
	}
	return nil
}

// environmentOptions reads the options that Kaniko also takes from its
// environment.
func environmentOptions(opts *options) error {
	if value, set := os.LookupEnv("KANIKO_REGISTRY_MIRROR"); set {
		opts.registry.mirrors = append(opts.registry.mirrors, value)
	}
	if value, set := os.LookupEnv("KANIKO_NO_PUSH"); set {
		parsed, err := strconv.ParseBool(value)
		if err != nil {
			return fmt.Errorf("invalid value %q for KANIKO_NO_PUSH environment variable", value)
		}
		opts.noPush = parsed
	}
	if value, set := os.LookupEnv("KANIKO_REGISTRY_MAP"); set {
		if err := opts.registry.maps.Set(value); err != nil {
			return fmt.Errorf("failed to set registry map %s", value)
		}
	}
	if directory, set := os.LookupEnv("KANIKO_DIR"); set && filepath.Clean(directory) != workDirectory() {
		return errors.New("the GoService test stand-in does not honour KANIKO_DIR, run with the real Kaniko")
	}
	for _, mirror := range opts.registry.mirrors {
		if err := opts.registry.maps.Set("index.docker.io=" + mirror); err != nil {
			return fmt.Errorf("failed to set registry mirror %s", mirror)
		}
	}
	if opts.platform == "" {
		opts.platform = runtime.GOOS + "/" + runtime.GOARCH
	}
	if _, err := v1.ParsePlatform(opts.platform); err != nil {
		return fmt.Errorf("Invalid platform %q: %w", opts.platform, err)
	}
	return nil
}

// resolveContext honours the schemes that name a local folder.
func resolveContext(opts *options) error {
	scheme, path, found := strings.Cut(opts.context, "://")
	switch {
	case opts.context == "":
		return errors.New("please specify a path to the build context with the --context flag or a bucket with the --bucket flag")
	case !found:
		return nil
	case scheme == "dir":
		opts.context = path
	case scheme == "gs", scheme == "s3", scheme == "git", scheme == "https", scheme == "tar":
		return fmt.Errorf("the GoService test stand-in does not honour a %s:// context, run with the real Kaniko", scheme)
	default:
		return errors.New("unknown build context prefix provided, please use one of the following: " +
			"gs://, dir://, tar://, s3://, git://, https://")
	}
	if opts.contextSubPath != "" {
		opts.context = filepath.Join(opts.context, opts.contextSubPath)
		if _, err := os.Stat(opts.context); errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// resolveDockerfile finds the Dockerfile as given, then inside the context,
// and copies it (and its .dockerignore) beside the executor, where deleting
// the file system between stages does not reach.
func resolveDockerfile(opts *options) error {
	found := opts.dockerfile
	if _, err := os.Lstat(found); errors.Is(err, os.ErrNotExist) {
		found = filepath.Join(opts.context, opts.dockerfile)
		if _, err := os.Lstat(found); errors.Is(err, os.ErrNotExist) {
			return errors.New("please provide a valid path to a Dockerfile within the build context with --dockerfile")
		}
	}
	kept := filepath.Join(workDirectory(), "Dockerfile")
	if err := copyContents(found, kept); err != nil {
		return fmt.Errorf("copying dockerfile: %w", err)
	}
	if _, err := os.Lstat(found + ".dockerignore"); err == nil {
		if err := copyContents(found+".dockerignore", kept+".dockerignore"); err != nil {
			return fmt.Errorf("copying Dockerfile.dockerignore: %w", err)
		}
	}
	opts.dockerfile = kept
	return nil
}

// resolveRelative makes every remaining path absolute, since the build moves
// to /.
func resolveRelative(opts *options) error {
	for _, path := range []*string{
		&opts.context, &opts.digestFile, &opts.imageNameDigestFile, &opts.imageTagDigestFile, &opts.layoutPath,
	} {
		if *path == "" || filepath.IsAbs(*path) {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("couldn't resolve relative path %s to an absolute path: %w", *path, err)
		}
		*path = absolute
	}
	return nil
}

// workDirectory is where the executor lives; its own files are kept there and
// it is never part of an image.
func workDirectory() string {
	executable, err := os.Executable()
	if err != nil {
		return "/kaniko"
	}
	return filepath.Dir(executable)
}
