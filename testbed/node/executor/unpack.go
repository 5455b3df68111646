package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

const whiteoutPrefix = ".wh."

// unpack lays the layers of an image over root, one after the other, leaving
// ignored paths alone.
func unpack(image v1.Image, root string, skip ignored) error {
	layers, err := image.Layers()
	if err != nil {
		return err
	}
	for i, layer := range layers {
		if err := unpackLayer(layer, root, skip); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	return nil
}

func unpackLayer(layer v1.Layer, root string, skip ignored) error {
	contents, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer contents.Close()
	archive := tar.NewReader(contents)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("error reading tar: %w", err)
		}
		name := filepath.Clean(header.Name)
		if name == ".." || strings.HasPrefix(name, "../") {
			return fmt.Errorf("tar entry %q is not allowed: references parent directory", header.Name)
		}
		path := filepath.Join(root, name)
		if base := filepath.Base(path); strings.HasPrefix(base, whiteoutPrefix) {
			gone := filepath.Join(filepath.Dir(path), strings.TrimPrefix(base, whiteoutPrefix))
			if skip.covers(gone) || skip.within(gone) {
				continue
			}
			if err := os.RemoveAll(gone); err != nil {
				return fmt.Errorf("removing whiteout %s: %w", header.Name, err)
			}
			continue
		}
		if skip.covers(path) {
			logrus.Debugf("Not adding %s because it is ignored", path)
			continue
		}
		if err := unpackEntry(header, archive, path, root, skip); err != nil {
			return err
		}
	}
}

func unpackEntry(header *tar.Header, contents io.Reader, path, root string, skip ignored) error {
	mode := header.FileInfo().Mode()
	switch header.Typeflag {
	case tar.TypeDir:
		if information, err := os.Lstat(path); err == nil && isLink(information) {
			if err := os.Remove(path); err != nil {
				return fmt.Errorf("error removing symlink %s to make way for new directory: %w", path, err)
			}
		}
		if err := makeDirectory(path, mode, header.Uid, header.Gid); err != nil {
			return err
		}
		return os.Chmod(path, mode)
	case tar.TypeReg:
		if blocked, err := makeWay(path, skip); blocked || err != nil {
			return err
		}
		file, err := os.Create(path)
		if err != nil {
			return err
		}
		if _, err := io.Copy(file, contents); err != nil {
			file.Close()
			return err
		}
		if err := file.Close(); err != nil {
			return err
		}
		if err := setOwnerAndMode(path, mode, header.Uid, header.Gid); err != nil {
			return err
		}
		if capability, set := header.PAXRecords["SCHILY.xattr."+capabilityAttribute]; set {
			err := unix.Lsetxattr(path, capabilityAttribute, []byte(capability), 0)
			if err != nil && !errors.Is(err, unix.EOPNOTSUPP) {
				return fmt.Errorf("failed to write %q attribute to %q: %w", capabilityAttribute, path, err)
			}
		}
		return os.Chtimes(path, orEpoch(header.AccessTime), orEpoch(header.ModTime))
	case tar.TypeSymlink:
		if blocked, err := makeWay(path, skip); blocked || err != nil {
			return err
		}
		return os.Symlink(header.Linkname, path)
	case tar.TypeLink:
		target := filepath.Clean(header.Linkname)
		if target == ".." || strings.HasPrefix(target, "../") {
			return fmt.Errorf("hardlink target %q is not allowed: references parent directory", header.Linkname)
		}
		target = filepath.Join(root, target)
		if skip.covers(target) {
			return nil
		}
		if blocked, err := makeWay(path, skip); blocked || err != nil {
			return err
		}
		return os.Link(target, path)
	default:
		// Devices and pipes are left out, as Kaniko leaves them out.
		return nil
	}
}

func orEpoch(moment time.Time) time.Time {
	if moment.IsZero() {
		return time.Unix(0, 0)
	}
	return moment
}

// makeWay makes the parent folder and removes whatever is at path. It says
// that the path is blocked if a mount below it must stay.
func makeWay(path string, skip ignored) (blocked bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if skip.within(path) {
		return true, clearFolder(path, skip)
	}
	return false, os.RemoveAll(path)
}

// clearFolder removes everything below root that is neither ignored nor holds an
// ignored path. Between stages it clears the file system of the container.
func clearFolder(root string, skip ignored) error {
	return filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			// What cannot be read is on its way out.
			return nil
		case path == root:
			return nil
		case skip.covers(path):
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case skip.within(path):
			return nil
		}
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if entry.IsDir() {
			return filepath.SkipDir
		}
		return nil
	})
}
