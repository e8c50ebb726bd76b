// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Unpack gives a folder with the files of a package, unpacking it first if that
// has not been done. Paths restricts it to those files and folders, spelled
// without a leading slash ("boot", "usr/src/linux-source-6.1.tar.xz"); a path
// that the package lacks is an error. Owners are the caller's, modification
// times the package's. Callers must not write into the folder: it is shared.
func (c *Cache) Unpack(ctx context.Context, pkg, version string, paths ...string) (string, error) {
	version, err := c.resolve(ctx, pkg, version)
	if err != nil {
		return "", err
	}
	paths = append([]string(nil), paths...)
	for i, p := range paths {
		paths[i] = path.Clean(strings.TrimLeft(p, "/"))
		if !fs.ValidPath(paths[i]) || paths[i] == "." {
			return "", fmt.Errorf("unpacking %s: %q is not a path inside a package", pkg, p)
		}
	}
	key := pkg + "_" + fileVersion(version) + filterKey(paths)
	dir := filepath.Join(c.Root, "unpacked", key)
	if exists(dir) {
		return dir, nil
	}
	deb, err := c.Fetch(ctx, pkg, version)
	if err != nil {
		return "", err
	}
	unlock, err := c.lock(ctx, "unpack-"+key)
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(dir) {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", pkg, err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-")
	if err != nil {
		return "", fmt.Errorf("unpacking %s: %w", pkg, err)
	}
	defer os.RemoveAll(tmp)
	if err := c.unpackTo(ctx, deb, tmp, pkg+" "+version, paths); err != nil {
		if errors.Is(err, errDamaged) {
			// apt checked it when it came: the cache has been damaged since.
			os.Remove(deb)
			err = fmt.Errorf("%w (it has been removed from the cache; try again)", err)
		}
		return "", fmt.Errorf("unpacking %s: %w", filepath.Base(deb), err)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return "", fmt.Errorf("unpacking %s: %w", pkg, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return "", fmt.Errorf("keeping the unpacked %s: %w", pkg, err)
	}
	return dir, nil
}

// errDamaged says that dpkg-deb cannot read the package.
var errDamaged = errors.New("the package is damaged")

// unpackTo feeds dpkg-deb's tar stream to extract. dpkg-deb knows every
// compression of packages; the tar side is ours so that nothing is written
// outside dir and progress can be told.
func (c *Cache) unpackTo(ctx context.Context, deb, dir, what string, paths []string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	var log bytes.Buffer
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting dpkg-deb: %w", err)
	}
	exErr := c.extract(ctx, out, dir, what, paths)
	if exErr != nil {
		cancel()
	} else {
		// The padding after the last entry has to be read, or dpkg-deb dies of
		// a broken pipe.
		_, exErr = io.Copy(io.Discard, out)
	}
	waitErr := cmd.Wait()
	said := strings.TrimSpace(log.String())
	switch {
	case ctx.Err() != nil && exErr == nil:
		return ctx.Err()
	case said != "" && (exErr == nil || errors.Is(exErr, io.ErrUnexpectedEOF) || errors.Is(exErr, tar.ErrHeader)):
		return fmt.Errorf("%w: %s", errDamaged, said)
	case exErr != nil:
		return exErr
	case waitErr != nil:
		return fmt.Errorf("running dpkg-deb: %w", waitErr)
	}
	return nil
}
