package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/sirupsen/logrus"
)

// registryOptions say how registries are reached.
type registryOptions struct {
	insecure, insecurePull bool
	skipTLS, skipTLSPull   bool
	noFallback             bool
	insecureHosts          words
	skipTLSHosts           words
	certificates           pairs
	maps                   mappings
	mirrors                words
	helpers                words
	pushRetry              int
	downloadRetry          int

	pulled map[string]v1.Image
}

// keychain is the Docker configuration alone ($DOCKER_CONFIG/config.json): the
// stand-in has none of the cloud credential helpers.
func keychain() authn.Keychain { return authn.DefaultKeychain }

func (o *registryOptions) transport(host string, skipTLS bool) (http.RoundTripper, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if skipTLS || o.skipTLSHosts.has(host) {
		transport.TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	} else if path := o.certificates[host]; path != "" {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		pem, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("failed to load certificate %s for %s: %w", path, host, err)
		}
		pool.AppendCertsFromPEM(pem)
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	return transport, nil
}

// retry repeats an operation after 1 s, 2 s, 4 s… Every error is retried, a
// missing image too: that is what Kaniko does.
func retry(count int, operation func() error) error {
	err := operation()
	for i := 0; err != nil && i < count; i++ {
		pause := time.Duration(math.Pow(2, float64(i))) * time.Second
		logrus.Warnf("Retrying operation after %s due to %v", pause, err)
		time.Sleep(pause)
		err = operation()
	}
	return err
}

// pull finds an image by way of the registry map, then at its own registry.
func (o *registryOptions) pull(image, platform string) (v1.Image, error) {
	logrus.Infof("Retrieving image manifest %s", image)
	if known := o.pulled[image]; known != nil {
		logrus.Info("Returning cached image manifest")
		return known, nil
	}
	reference, err := name.ParseReference(image, name.WeakValidation)
	if err != nil {
		return nil, err
	}
	targets := o.maps[reference.Context().RegistryStr()]
	for _, target := range targets {
		host, prefix, _ := strings.Cut(target, "/")
		if prefix != "" && !strings.HasSuffix(prefix, "/") {
			prefix += "/"
		}
		choices := []name.Option{name.WithDefaultRegistry(host), name.WeakValidation}
		if o.insecurePull || o.insecureHosts.has(host) {
			choices = append(choices, name.Insecure)
		}
		repository, err := name.NewRepository(prefix+reference.Context().RepositoryStr(), choices...)
		if err != nil {
			return nil, err
		}
		mapped := inRepository(reference, repository)
		logrus.Infof("Retrieving image %s from mapped registry %s", mapped, host)
		found, err := o.download(mapped, host, platform)
		if err != nil {
			logrus.Warnf("Failed to retrieve image %s from remapped registry %s: %s. "+
				"Will try with the next registry, or fallback to the original registry.", mapped, host, err)
			continue
		}
		return o.remember(image, found), nil
	}
	if len(targets) > 0 && o.noFallback {
		return nil, fmt.Errorf("image not found on any configured mapped registries for %s", reference)
	}
	host := reference.Context().RegistryStr()
	if o.insecurePull || o.insecureHosts.has(host) {
		repository := reference.Context()
		if repository.Registry, err = name.NewRegistry(host, name.WeakValidation, name.Insecure); err != nil {
			return nil, err
		}
		reference = inRepository(reference, repository)
	}
	logrus.Infof("Retrieving image %s from registry %s", reference, host)
	found, err := o.download(reference, host, platform)
	if err != nil {
		return nil, err
	}
	return o.remember(image, found), nil
}

func (o *registryOptions) remember(image string, found v1.Image) v1.Image {
	if o.pulled == nil {
		o.pulled = map[string]v1.Image{}
	}
	o.pulled[image] = found
	return found
}

func (o *registryOptions) download(reference name.Reference, host, platform string) (v1.Image, error) {
	transport, err := o.transport(host, o.skipTLS)
	if err != nil {
		return nil, err
	}
	wanted, err := v1.ParsePlatform(platform)
	if err != nil {
		return nil, err
	}
	var found v1.Image
	attempts := 0
	err = retry(o.downloadRetry, func() error {
		attempts++
		var err error
		found, err = remote.Image(reference,
			remote.WithTransport(transport), remote.WithAuthFromKeychain(keychain()), remote.WithPlatform(*wanted))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("unable to complete operation after %d attempts, last error: %w", o.downloadRetry, err)
	}
	return found, nil
}

func inRepository(reference name.Reference, repository name.Repository) name.Reference {
	switch kind := reference.(type) {
	case name.Tag:
		kind.Repository = repository
		return kind
	case name.Digest:
		kind.Repository = repository
		return kind
	default:
		return reference
	}
}

// destination is a parsed --destination with its registry's scheme decided.
func (o *registryOptions) destination(text string) (name.Tag, error) {
	tag, err := name.NewTag(text, name.WeakValidation)
	if err != nil {
		return tag, fmt.Errorf("getting tag for destination: %w", err)
	}
	host := tag.Registry.Name()
	if o.insecure || o.insecureHosts.has(host) {
		registry, err := name.NewRegistry(host, name.WeakValidation, name.Insecure)
		if err != nil {
			return tag, fmt.Errorf("getting new insecure registry: %w", err)
		}
		tag.Registry = registry
	}
	return tag, nil
}
