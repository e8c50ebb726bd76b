// SPDX-License-Identifier: Apache-2.0

package versions

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/internal/sign"
)

// PutSigned stores an update with the signature that lay beside its file, which
// may be nil: when the update is applied again, after a boot, it is verified
// again. After a crash the store has both, or no update.
func (s Store) PutSigned(module string, image, minisig []byte) error {
	if minisig == nil {
		if err := s.removeSignature(module); err != nil {
			return err
		}
		return s.Put(module, image)
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return fmt.Errorf("storing the signature of %s: %w", module, err)
	}
	if err := renameio.WriteFile(s.Path(module)+sign.MinisigSuffix, minisig, 0o600); err != nil {
		return fmt.Errorf("storing the signature of %s: %w", module, err)
	}
	// Put makes the names of both files last.
	return s.Put(module, image)
}

// removeSignature is called when the update is gone: a signature alone is
// nothing, an update without its signature might be refused.
func (s Store) removeSignature(module string) error {
	err := os.Remove(s.Path(module) + sign.MinisigSuffix)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the signature of %s: %w", module, err)
	}
	return nil
}
