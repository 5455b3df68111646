package main

import (
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// options are what the flags of one run say.
type options struct {
	registry registryOptions

	verbosity string
	logFormat string
	logTime   bool
	force     bool

	dockerfile     string
	context        string
	contextSubPath string
	destinations   words
	buildArgs      words
	labels         words
	annotations    pairs
	ignorePaths    words
	target         []string
	platform       string

	snapshotMode      string
	imageFormat       choice
	compression       choice
	compressionLevel  int
	compressedCaching bool
	extractRetry      int
	reproducible      bool
	ignoreVarRun      bool

	noPush              bool
	skipPermissionCheck bool
	digestFile          string
	imageNameDigestFile string
	imageTagDigestFile  string
	layoutPath          string
}

// words is a flag that may be repeated; each occurrence is one value, commas
// included.
type words []string

func (w *words) String() string { return strings.Join(*w, ",") }
func (w *words) Type() string   { return "multi-arg type" }
func (w *words) Set(value string) error {
	*w = append(*w, value)
	return nil
}

func (w words) has(value string) bool {
	for _, each := range w {
		if each == value {
			return true
		}
	}
	return false
}

// pairs is a repeatable key=value flag.
type pairs map[string]string

func (p *pairs) Type() string { return "key-value-arg type" }
func (p *pairs) String() string {
	texts := make([]string, 0, len(*p))
	for key, value := range *p {
		texts = append(texts, key+"="+value)
	}
	sort.Strings(texts)
	return strings.Join(texts, ",")
}

func (p *pairs) Set(value string) error {
	key, rest, found := strings.Cut(value, "=")
	if !found {
		return fmt.Errorf("invalid argument value. expect key=value, got %s", value)
	}
	if *p == nil {
		*p = pairs{}
	}
	(*p)[key] = rest
	return nil
}

// mappings is the registry map: "a=b;c=d", repeatable, several targets per
// source.
type mappings map[string][]string

func (m *mappings) Type() string { return "key-multi-value-arg type" }
func (m *mappings) String() string {
	var texts []string
	for from, targets := range *m {
		for _, to := range targets {
			texts = append(texts, from+"="+to)
		}
	}
	sort.Strings(texts)
	return strings.Join(texts, ";")
}

func (m *mappings) Set(value string) error {
	if value == "" {
		return nil
	}
	for part := range strings.SplitSeq(value, ";") {
		from, to, found := strings.Cut(part, "=")
		if !found {
			return fmt.Errorf("invalid argument value. expect key=value, got %s", part)
		}
		if *m == nil {
			*m = mappings{}
		}
		(*m)[from] = append((*m)[from], to)
	}
	return nil
}

// choice is a flag with a closed set of two values.
type choice struct {
	value  string
	name   string
	first  string
	second string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return c.name }
func (c *choice) Set(value string) error {
	if value != c.first && value != c.second {
		return fmt.Errorf("must be either %q or %q", c.first, c.second)
	}
	c.value = value
	return nil
}

// unsupported are flags of Kaniko that this stand-in knows but does not
// honour. Giving one is an error that names the stand-in: ignoring it would
// let a test pass that the real program fails.
var unsupported = struct {
	booleans, strings, repeated []string
}{
	booleans: []string{
		"cache", "single-snapshot", "no-push-cache", "use-new-run", "preserve-context",
		"materialize", "dryrun", "pre-cleanup", "cleanup",
	},
	strings:  []string{"cache-repo", "cache-dir", "cache-ttl", "bucket", "kaniko-dir", "tar-path"},
	repeated: []string{"git", "secret"},
}

// Flags for registries that are refused.
const (
	immutableFlag   = "push-ignore-immutable-tag-errors"
	clientCertsFlag = "registry-client-cert"
)

// refuseUnhonoured fails if a flag that the stand-in does not honour is given
// a value that asks for something.
func refuseUnhonoured(flags *pflag.FlagSet) error {
	names := []string{immutableFlag, clientCertsFlag}
	names = append(append(append(names, unsupported.booleans...), unsupported.strings...), unsupported.repeated...)
	for _, name := range names {
		flag := flags.Lookup(name)
		if flag == nil || !flag.Changed || flag.Value.String() == "false" || flag.Value.String() == "" {
			continue
		}
		return fmt.Errorf("the GoService test stand-in does not honour --%s, run with the real Kaniko", name)
	}
	return nil
}

// harmless are flags that change nothing while caching is off.
var harmless = []string{"cache-copy-layers", "cache-run-layers", "force-build-metadata", "skip-unused-stages"}

func rootCommand() *cobra.Command {
	opts := &options{
		imageFormat: choice{name: "imageformat", first: "docker", second: "oci"},
		compression: choice{name: "compression", first: "gzip", second: "zstd"},
	}
	command := &cobra.Command{
		Use:  "executor",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := prepare(cmd, opts); err != nil {
				return err
			}
			cmd.SilenceUsage, cmd.SilenceErrors = true, true
			if err := execute(opts); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return runFailure{err}
			}
			return nil
		},
	}
	flags := command.Flags()
	addLogFlags(flags, opts)
	flags.BoolVar(&opts.force, "force", false, "Force building outside of a container")
	flags.StringVarP(&opts.dockerfile, "dockerfile", "f", "Dockerfile", "Path to the dockerfile to be built.")
	flags.StringVarP(&opts.context, "context", "c", "/workspace/", "Path to the dockerfile build context.")
	flags.StringVar(&opts.contextSubPath, "context-sub-path", "", "Sub path within the given context.")
	flags.VarP(&opts.destinations, "destination", "d", "Registry the final image should be pushed to. Repeatable.")
	flags.Var(&opts.buildArgs, "build-arg", "ARG value at build time. Repeatable.")
	flags.Var(&opts.labels, "label", "Metadata for the image. Repeatable.")
	flags.Var(&opts.annotations, "annotation", "Annotation of the manifest, key=value. Repeatable.")
	flags.Var(&opts.ignorePaths, "ignore-path", "Ignore this path when taking a snapshot. Repeatable.")
	flags.StringSliceVar(&opts.target, "target", nil, "Target stage to build.")
	flags.StringVar(&opts.platform, "custom-platform", "", "Build platform if different from the current host")
	flags.StringVar(&opts.snapshotMode, "snapshot-mode", "full", "File attributes inspected during snapshotting")
	flags.Var(&opts.imageFormat, "image-format", "Output image media type (docker, oci).")
	flags.Var(&opts.compression, "compression", "Compression algorithm (gzip, zstd)")
	flags.IntVar(&opts.compressionLevel, "compression-level", -1, "Compression level")
	flags.BoolVar(&opts.compressedCaching, "compressed-caching", true, "Keep compressed layers in memory.")
	flags.IntVar(&opts.extractRetry, "image-fs-extract-retry", 0, "Number of retries for image FS extraction")
	flags.BoolVar(&opts.reproducible, "reproducible", false, "Strip timestamps out of the image")
	flags.BoolVar(&opts.ignoreVarRun, "ignore-var-run", true, "Ignore /var/run when taking a snapshot.")
	flags.BoolVar(&opts.noPush, "no-push", false, "Do not push the image to the registry")
	flags.StringVar(&opts.digestFile, "digest-file", "", "File to save the digest of the built image to.")
	flags.StringVar(&opts.imageNameDigestFile, "image-name-with-digest-file", "", "File to save name@digest to.")
	flags.StringVar(&opts.imageTagDigestFile, "image-name-tag-with-digest-file", "", "File to save name:tag@digest to.")
	flags.StringVar(&opts.layoutPath, "oci-layout-path", "", "Path to save the OCI image layout of the built image.")
	addRegistryFlags(flags, opts)
	for _, name := range append(unsupported.booleans, harmless...) {
		flags.Bool(name, false, "Known, but not honoured by the test stand-in.")
	}
	for _, name := range unsupported.strings {
		flags.String(name, "", "Known, but not honoured by the test stand-in.")
	}
	for _, name := range unsupported.repeated {
		flags.Var(&words{}, name, "Known, but not honoured by the test stand-in.")
	}
	command.CompletionOptions.DisableDefaultCmd = true
	return command
}

func addLogFlags(flags *pflag.FlagSet, opts *options) {
	flags.StringVarP(&opts.verbosity, "verbosity", "v", "info", "Log level (trace, debug, info, warn, error, fatal, panic)")
	flags.StringVar(&opts.logFormat, "log-format", "color", "Log format (text, color, json)")
	flags.BoolVar(&opts.logTime, "log-timestamp", false, "Timestamp in log output")
}

func addRegistryFlags(flags *pflag.FlagSet, opts *options) {
	registry := &opts.registry
	flags.BoolVar(&opts.skipPermissionCheck, "skip-push-permission-check", false,
		"Start without asking the registry whether the credentials allow a push.")
	flags.BoolVar(&registry.insecure, "insecure", false,
		"Push by plain HTTP, to every registry that is named as a destination.")
	flags.BoolVar(&registry.insecurePull, "insecure-pull", false,
		"Pull by plain HTTP, from every registry that a base image names.")
	flags.BoolVar(&registry.skipTLS, "skip-tls-verify", false,
		"Push without verifying the registry's certificate.")
	flags.BoolVar(&registry.skipTLSPull, "skip-tls-verify-pull", false,
		"Pull without verifying the registry's certificate.")
	flags.IntVar(&registry.pushRetry, "push-retry", 0,
		"How many times a failed push is repeated, after 1 s, 2 s, 4 s and so on.")
	flags.IntVar(&registry.downloadRetry, "image-download-retry", 0,
		"How many times a failed download of a base image is repeated, after 1 s, 2 s, 4 s and so on.")
	flags.Var(&registry.insecureHosts, "insecure-registry",
		"Registry, with its port, to push to and pull from by plain HTTP. May be given several times.")
	flags.Var(&registry.skipTLSHosts, "skip-tls-verify-registry",
		"Registry, with its port, whose certificate is not verified. May be given several times.")
	flags.Var(&registry.certificates, "registry-certificate",
		"Certificate to trust for one registry beside the system's, as 'registry.example.com:5000=/path/to/certificate'. May be given several times.")
	flags.Var(&registry.maps, "registry-map",
		"Registries to pull from in place of others, as 'original.example.com=mirror.example.com;other.example.com=mirror.example.com/folder'. May be given several times.")
	flags.Var(&registry.mirrors, "registry-mirror",
		"Registry to pull from in place of docker.io, with a folder if it has one. May be given several times.")
	flags.BoolVar(&registry.noFallback, "skip-default-registry-fallback", false,
		"Fail when no mapped registry and no mirror has a base image, in place of asking the registry that the Dockerfile names.")
	flags.Bool(immutableFlag, false, "Known, but not honoured by the test stand-in.")
	flags.Var(&words{}, clientCertsFlag, "Known, but not honoured by the test stand-in.")
	flags.Var(&registry.helpers, "credential-helpers",
		"Taken and not used: the stand-in knows no credential helpers, only the config.json in the folder that DOCKER_CONFIG names.")
}

func configureLog(level, format string, withTime bool) error {
	parsed, err := logrus.ParseLevel(level)
	if err != nil {
		return fmt.Errorf("parsing log level: %w", err)
	}
	logrus.SetLevel(parsed)
	switch format {
	case "text":
		logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true, FullTimestamp: withTime})
	case "color":
		logrus.SetFormatter(&logrus.TextFormatter{ForceColors: true, FullTimestamp: withTime})
	case "json":
		logrus.SetFormatter(&logrus.JSONFormatter{})
	default:
		return fmt.Errorf("not a valid log format: %q. Please specify one of (text, color, json)", format)
	}
	return nil
}
