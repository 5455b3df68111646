package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const capabilityAttribute = "security.capability"

// keep as a user or group id leaves the owner as it is.
const keep = -1

func owner(information fs.FileInfo) (int, int) {
	stat := information.Sys().(*syscall.Stat_t)
	return int(stat.Uid), int(stat.Gid)
}

func isLink(information fs.FileInfo) bool { return information.Mode()&fs.ModeSymlink != 0 }

// copyContents copies a file's bytes and mode, following links.
func copyContents(from, to string) error {
	information, err := os.Stat(from)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(to, text, information.Mode().Perm()); err != nil {
		return err
	}
	return os.Chmod(to, information.Mode())
}

// makeDirectory makes path with exactly this mode and owner, replacing a file
// of that name. Parents that have to be made keep the process' owner.
func makeDirectory(path string, mode fs.FileMode, uid, gid int) error {
	information, err := os.Lstat(path)
	switch {
	case err == nil && !information.IsDir():
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("error removing %s to make way for new directory: %w", path, err)
		}
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("error calling stat on %s: %w", path, err)
	}
	mask := syscall.Umask(0)
	err = os.MkdirAll(path, mode)
	syscall.Umask(mask)
	if err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}

// makeParents makes the missing parents of path, given to uid and gid unless
// these are keep.
func makeParents(path string, uid, gid int) error {
	parent := filepath.Dir(path)
	information, err := os.Lstat(parent)
	if err == nil {
		if isLink(information) {
			return errors.New("destination cannot be a symlink")
		}
		return nil
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := makeParents(parent, uid, gid); err != nil {
		return err
	}
	if err := os.Mkdir(parent, 0o755); err != nil {
		return err
	}
	if uid == keep {
		return nil
	}
	return os.Chown(parent, uid, gid)
}

// copyFile copies one regular file with mode, times and file capabilities.
func copyFile(from, to string, uid, gid int) error {
	information, err := os.Stat(from)
	if err != nil {
		return err
	}
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	if uid == keep {
		uid, _ = owner(information)
	}
	if gid == keep {
		_, gid = owner(information)
	}
	if err := createFile(to, source, information.Mode(), uid, gid); err != nil {
		return err
	}
	if err := copyTime(from, to); err != nil {
		return err
	}
	return copyCapability(from, to)
}

func createFile(path string, contents io.Reader, mode fs.FileMode, uid, gid int) error {
	if err := makeParents(path, uid, gid); err != nil {
		return fmt.Errorf("creating parent dir: %w", err)
	}
	if information, err := os.Lstat(path); err == nil {
		if oldUID, oldGID := owner(information); oldUID != 0 && oldGID != 0 {
			if err := os.Chown(path, 0, 0); err != nil {
				return fmt.Errorf("reseting file ownership: %w", err)
			}
		}
	}
	file, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("creating file: %w", err)
	}
	defer file.Close()
	if _, err := io.Copy(file, contents); err != nil {
		return fmt.Errorf("copying file: %w", err)
	}
	return setOwnerAndMode(path, mode, uid, gid)
}

// setOwnerAndMode sets the mode last: changing the owner clears set-user-id.
func setOwnerAndMode(path string, mode fs.FileMode, uid, gid int) error {
	if err := os.Chown(path, uid, gid); err != nil {
		return err
	}
	return os.Chmod(path, mode)
}

// replaceLink makes to the same symbolic link as from.
func replaceLink(from, to string) error {
	if _, err := os.Lstat(to); err == nil {
		if err := os.RemoveAll(to); err != nil {
			return err
		}
	}
	if err := makeParents(to, keep, keep); err != nil {
		return err
	}
	target, err := os.Readlink(from)
	if err != nil {
		return err
	}
	return os.Symlink(target, to)
}

func copyTime(from, to string) error {
	information, err := os.Lstat(from)
	if err != nil {
		return err
	}
	if err := os.Chtimes(to, time.Time{}, information.ModTime()); err != nil {
		return fmt.Errorf("failed to copy timestamps: %w", err)
	}
	return nil
}

func copyCapability(from, to string) error {
	capability, err := readCapability(from)
	if err != nil || capability == nil {
		return err
	}
	return unix.Lsetxattr(to, capabilityAttribute, capability, 0)
}

func readCapability(path string) ([]byte, error) {
	buffer := make([]byte, 256)
	size, err := unix.Lgetxattr(path, capabilityAttribute, buffer)
	if errors.Is(err, unix.ENODATA) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("getting %q from src: %w", capabilityAttribute, err)
	}
	return buffer[:size], nil
}

// copyTree copies a file, link or folder with owners, modes and times, as a
// stage's files are kept for a later COPY --from.
func copyTree(from, to string, skip func(string) bool) error {
	type stamped struct{ from, to string }
	var folders []stamped
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if skip(path) {
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		}
		relative, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		information, err := entry.Info()
		if err != nil {
			return err
		}
		uid, gid := owner(information)
		switch {
		case isLink(information):
			return replaceLink(path, target)
		case information.IsDir():
			folders = append(folders, stamped{path, target})
			if err := os.MkdirAll(target, 0o755); err != nil {
				return err
			}
			return setOwnerAndMode(target, information.Mode(), uid, gid)
		case information.Mode().IsRegular():
			if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
				return err
			}
			return copyFile(path, target, keep, keep)
		default:
			return nil
		}
	})
	if err != nil {
		return err
	}
	for i := len(folders) - 1; i >= 0; i-- {
		if err := copyTime(folders[i].from, folders[i].to); err != nil {
			return err
		}
	}
	return nil
}
