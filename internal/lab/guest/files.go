// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/lupatch/lupatch/internal/lab/wire"
)

// upload is a file that is coming in. It gets its name when it is complete.
type upload struct {
	path string
	mode os.FileMode
	tmp  *os.File
	sum  hash.Hash
	size int64
	err  error // the first failure; reported when the sender has finished
}

func (a *agent) put(id uint64, req wire.Put) {
	u := &upload{path: req.Path, mode: os.FileMode(req.Mode).Perm(), sum: sha256.New()}
	if u.err = os.MkdirAll(filepath.Dir(req.Path), 0o755); u.err == nil {
		u.tmp, u.err = os.CreateTemp(filepath.Dir(req.Path), ".lupatch-put-")
	}
	a.puts[id] = u
}

// putData is called by the reading goroutine only, as put is: no lock is needed.
func (a *agent) putData(m *wire.Message) {
	u := a.puts[m.ID]
	if u == nil {
		return
	}
	if u.err == nil {
		_, u.err = u.tmp.Write(m.Data)
		u.sum.Write(m.Data)
		u.size += int64(len(m.Data))
	}
	if !m.End {
		return
	}
	delete(a.puts, m.ID)
	err := u.finish(m.Body)
	if err != nil {
		err = fmt.Errorf("writing %s: %w", u.path, err)
	}
	a.done(m.ID, nil, err)
}

func (u *upload) finish(body json.RawMessage) error {
	if u.tmp == nil {
		return u.err
	}
	defer os.Remove(u.tmp.Name())
	if err := u.tmp.Close(); u.err == nil {
		u.err = err
	}
	if u.err != nil {
		return u.err
	}
	var want wire.Digest
	if err := json.Unmarshal(body, &want); err != nil {
		return err
	}
	if got := hex.EncodeToString(u.sum.Sum(nil)); got != want.SHA256 || u.size != want.Size {
		return fmt.Errorf("%d bytes with digest %.12s came, %d with %.12s were sent", u.size, got, want.Size, want.SHA256)
	}
	if err := os.Chmod(u.tmp.Name(), u.mode); err != nil {
		return err
	}
	return os.Rename(u.tmp.Name(), u.path)
}

func (a *agent) get(id uint64, req wire.Get) {
	f, err := os.Open(req.Path)
	if err != nil {
		a.done(id, nil, err)
		return
	}
	go func() {
		defer f.Close()
		sum := sha256.New()
		n, err := io.Copy(io.MultiWriter(sum, &sender{a, id, wire.OpData}), f)
		if err != nil {
			a.done(id, nil, fmt.Errorf("reading %s: %w", req.Path, err))
			return
		}
		d := wire.Digest{Size: n, SHA256: hex.EncodeToString(sum.Sum(nil))}
		if info, err := f.Stat(); err == nil {
			d.Mode = uint32(info.Mode().Perm())
		}
		a.done(id, d, nil)
	}()
}
