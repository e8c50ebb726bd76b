// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/internal/refuse"
	"github.com/lupatch/lupatch/internal/sign"
)

// sign signs the linked update with the keys that were given; minisig is nil
// without a key for it.
func (j *job) sign(ko []byte, m *manifest.Manifest) (signed, minisig []byte, err error) {
	return signWith(j.opt.Keys, ko, m, func(name string) string { return j.tree.Config[name] })
}

// SignFile signs a finished update in its place and gives the paths of what was
// written. The digest is that of the kernel's configuration if this host has it in
// /boot, below root. Refusals are those of manifest.ReadUpdate, and
// refuse.KeyUnusable.
func SignFile(path, root string, keys sign.Keys) ([]string, error) {
	ko, m, err := manifest.ReadUpdate(path)
	if err != nil {
		return nil, err
	}
	config, err := bootConfig(filepath.Join(root, "/boot/config-"+m.Release))
	if err != nil {
		return nil, err
	}
	signed, minisig, err := signWith(keys, ko, m, config)
	if err != nil {
		return nil, err
	}
	var written []string
	if keys.Kernel != nil {
		if err := renameio.WriteFile(path, signed, 0o644); err != nil {
			return nil, fmt.Errorf("writing the signed update: %w", err)
		}
		written = append(written, path)
	}
	if keys.Minisign != nil {
		if err := renameio.WriteFile(path+sign.MinisigSuffix, minisig, 0o644); err != nil {
			return nil, fmt.Errorf("writing the signature: %w", err)
		}
		written = append(written, path+sign.MinisigSuffix)
	}
	return written, nil
}

func signWith(keys sign.Keys, ko []byte, m *manifest.Manifest, config func(string) string) (signed, minisig []byte, err error) {
	if k := keys.Minisign; k != nil {
		if minisig, err = k.SignMinisign(ko, fmt.Sprintf("lupatch update %s for kernel %s, made %s", m.Name, m.Release, m.Created.Format("2006-01-02T15:04:05Z"))); err != nil {
			return nil, nil, err
		}
	}
	k := keys.Kernel
	if k == nil {
		return ko, minisig, nil
	}
	if k.ECDSA() && config("CONFIG_CRYPTO_ECDSA") != "y" {
		e := refuse.New(refuse.KeyUnusable, k.Name, "it is an ECDSA key, and the kernel %s is not known to verify those (CONFIG_CRYPTO_ECDSA)", m.Release)
		e.Remedy = "sign with an RSA key"
		return nil, nil, e
	}
	signed, err = k.SignKernel(ko, strings.Trim(config("CONFIG_MODULE_SIG_HASH"), `"`))
	return signed, minisig, err
}

// bootConfig reads a kernel's configuration; without the file all is unknown.
func bootConfig(path string) (func(string) string, error) {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("reading the kernel's configuration: %w", err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok {
			values[name] = value
		}
	}
	return func(name string) string { return values[name] }, nil
}

// write puts an update and its signature where they belong. A signature that is
// there is one of an earlier build, and would speak against this one.
func write(path string, ko, minisig []byte) error {
	if err := os.Remove(path + sign.MinisigSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing an old signature: %w", err)
	}
	if err := renameio.WriteFile(path, ko, 0o644); err != nil {
		return fmt.Errorf("writing the update: %w", err)
	}
	if minisig == nil {
		return nil
	}
	if err := renameio.WriteFile(path+sign.MinisigSuffix, minisig, 0o644); err != nil {
		return fmt.Errorf("writing the signature: %w", err)
	}
	return nil
}
