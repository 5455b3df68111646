package main

import (
	"os"
	"strconv"
	"strings"

	"github.com/sirupsen/logrus"
)

// Kaniko's feature flags come from its environment. These two change what the
// rendered Dockerfile builds, so the stand-in honours them; their defaults are
// those of Kaniko v1.28.3.
const (
	copyAsRoot    = "FF_KANIKO_COPY_AS_ROOT"
	runHonorGroup = "FF_KANIKO_RUN_HONOR_GROUP"
)

func feature(name string) bool {
	on, err := strconv.ParseBool(os.Getenv(name))
	return err == nil && on
}

func logFeatures() {
	var active []string
	for _, name := range []string{copyAsRoot, runHonorGroup} {
		if feature(name) {
			active = append(active, name)
		}
	}
	if len(active) > 0 {
		logrus.Infof("active feature flags: %s", strings.Join(active, ", "))
	}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "FF_KANIKO_") && name != copyAsRoot && name != runHonorGroup {
			logrus.Warnf("the GoService test stand-in does not honour the feature flag %s", name)
		}
	}
}
