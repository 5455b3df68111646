package main

import (
	"fmt"
	"runtime"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// typed gives an image the media types that --image-format asks for.
func (b *builder) typed(image v1.Image) (v1.Image, error) {
	switch b.opts.imageFormat.value {
	case "oci":
		return relabelled(image, types.OCIManifestSchema1, types.OCIConfigJSON, types.OCILayer)
	case "docker":
		return relabelled(image, types.DockerManifestSchema2, types.DockerConfigJSON, types.DockerLayer)
	default:
		return image, nil
	}
}

// relabelled is an image of the same layers and configuration under other
// media types; annotations of the base are not handed on.
func relabelled(image v1.Image, manifest, configuration, layer types.MediaType) (v1.Image, error) {
	original, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	layers, err := image.Layers()
	if err != nil {
		return nil, err
	}
	result := mutate.ConfigMediaType(mutate.MediaType(empty.Image, manifest), configuration)
	for _, each := range layers {
		if result, err = mutate.Append(result, mutate.Addendum{Layer: each, MediaType: layer}); err != nil {
			return nil, err
		}
	}
	return mutate.ConfigFile(result, original.DeepCopy())
}

func addLabels(config *v1.Config, labels []string) error {
	for _, label := range labels {
		key, value, found := strings.Cut(label, "=")
		if !found {
			return fmt.Errorf("labels must be of the form key=value, got %s", label)
		}
		setLabel(config, key, value)
	}
	return nil
}

func setLabel(config *v1.Config, key, value string) {
	labels := map[string]string{}
	for known, text := range config.Labels {
		labels[known] = text
	}
	labels[key] = value
	config.Labels = labels
}

// clearInheritedCommand drops the base's CMD when the stage sets an ENTRYPOINT
// of its own, to which it would be an argument.
func clearInheritedCommand(commands []instructions.Command, config *v1.Config) {
	var entrypoint, own bool
	for _, command := range commands {
		switch command.(type) {
		case *instructions.EntrypointCommand:
			entrypoint = true
		case *instructions.CmdCommand:
			own = true
		}
	}
	if entrypoint && !own {
		config.Cmd = nil
	}
}

// finish stamps platform, time and annotations on the final image.
func (b *builder) finish(image v1.Image) (v1.Image, error) {
	original, err := image.ConfigFile()
	if err != nil {
		return nil, err
	}
	configuration := original.DeepCopy()
	configuration.OS, configuration.Architecture = runtime.GOOS, runtime.GOARCH
	if platform, err := v1.ParsePlatform(b.opts.platform); err == nil {
		configuration.OS, configuration.Architecture = platform.OS, platform.Architecture
		configuration.Variant, configuration.OSVersion = platform.Variant, platform.OSVersion
	}
	configuration.Created = v1.Time{Time: time.Now()}
	if image, err = mutate.ConfigFile(image, configuration); err != nil {
		return nil, err
	}
	if b.opts.reproducible {
		if image, err = mutate.Canonical(image); err != nil {
			return nil, err
		}
	}
	if len(b.opts.annotations) > 0 {
		image = mutate.Annotations(image, b.opts.annotations).(v1.Image)
	}
	return image, nil
}
