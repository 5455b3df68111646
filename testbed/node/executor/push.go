package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/sirupsen/logrus"
)

// checkPermissions starts an upload at each destination's repository, once per
// repository, before any work is done.
func checkPermissions(opts *options) error {
	if opts.skipPermissionCheck || opts.noPush {
		return nil
	}
	checked := map[string]bool{}
	for _, text := range opts.destinations {
		tag, err := opts.registry.destination(text)
		if err != nil {
			return err
		}
		if checked[tag.Context().String()] {
			continue
		}
		roundTripper, err := opts.registry.transport(tag.Registry.Name(), opts.registry.skipTLS)
		if err != nil {
			return fmt.Errorf("making transport for registry %q: %w", tag.Registry.Name(), err)
		}
		if err := remote.CheckPushPermission(tag, keychain(), transport.NewRetry(roundTripper)); err != nil {
			return fmt.Errorf("checking push permission for %q: %w", tag, err)
		}
		checked[tag.Context().String()] = true
	}
	return nil
}

// deliver writes the digest files, then the layout, then pushes. This order is
// Kaniko's and the operator relies on knowing it: a digest file says nothing
// about whether the push succeeded.
func deliver(image v1.Image, opts *options) error {
	if !opts.noPush && len(opts.destinations) == 0 {
		return errors.New("must provide at least one destination to push")
	}
	digest, err := image.Digest()
	if err != nil {
		return fmt.Errorf("error fetching digest: %w", err)
	}
	if opts.digestFile != "" {
		if err := writeDigest(opts.digestFile, digest.String()); err != nil {
			return fmt.Errorf("writing digest to file failed: %w", err)
		}
	}
	if opts.layoutPath != "" {
		path, err := layout.Write(opts.layoutPath, empty.Index)
		if err != nil {
			return fmt.Errorf("writing empty layout: %w", err)
		}
		if err := path.AppendImage(image); err != nil {
			return fmt.Errorf("appending image: %w", err)
		}
	}
	var tags []name.Tag
	var names strings.Builder
	for _, text := range opts.destinations {
		tag, err := opts.registry.destination(text)
		if err != nil {
			return err
		}
		suffix := ""
		if opts.imageTagDigestFile != "" && tag.TagStr() != "" {
			suffix = ":" + tag.TagStr()
		}
		fmt.Fprintf(&names, "%s%s@%s\n", tag.Repository.Name(), suffix, digest)
		tags = append(tags, tag)
	}
	for _, path := range []string{opts.imageNameDigestFile, opts.imageTagDigestFile} {
		if path == "" {
			continue
		}
		if err := writeDigest(path, names.String()); err != nil {
			return fmt.Errorf("writing image name with digest to file failed: %w", err)
		}
	}
	if opts.noPush {
		logrus.Info("Skipping push to container registry due to --no-push flag")
		return nil
	}
	for _, tag := range tags {
		if err := pushTo(tag, image, opts); err != nil {
			return err
		}
	}
	return nil
}

func pushTo(tag name.Tag, image v1.Image, opts *options) error {
	credentials, err := keychain().Resolve(tag.Context().Registry)
	if err != nil {
		return fmt.Errorf("resolving pushAuth: %w", err)
	}
	roundTripper, err := opts.registry.transport(tag.Registry.Name(), opts.registry.skipTLS)
	if err != nil {
		return fmt.Errorf("making transport for registry %q: %w", tag.Registry.Name(), err)
	}
	logrus.Infof("Pushing image to %s", tag)
	err = retry(opts.registry.pushRetry, func() error {
		digest, err := image.Digest()
		if err != nil {
			return err
		}
		err = remote.Write(tag, image,
			remote.WithAuth(credentials), remote.WithTransport(named{transport.NewRetry(roundTripper)}))
		if err != nil {
			return err
		}
		logrus.Infof("Pushed %s", tag.Context().Digest(digest.String()))
		return nil
	})
	if err != nil {
		return fmt.Errorf("failed to push to destination %s: %w", tag, err)
	}
	return nil
}

// named puts the stand-in's own name into the registry's log.
type named struct{ next http.RoundTripper }

func (n named) RoundTrip(request *http.Request) (*http.Response, error) {
	request.Header.Set("User-Agent", "goservice-test-executor")
	return n.next.RoundTrip(request)
}

// writeDigest truncates in place: /dev/termination-log is a mount and cannot
// be replaced by a rename.
func writeDigest(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text), 0o644)
}
