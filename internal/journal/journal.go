// SPDX-License-Identifier: Apache-2.0

// Package journal is the codec of the record of what lupatch meant to do on a
// host: one JSON object a line, each on disk before the step it announces
// begins. It knows nothing of what the steps are.
package journal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// MaxLine bounds one record. Details quote kernel messages and lists of
	// tasks, a few kilobytes.
	MaxLine = 1 << 20
	// MaxSize bounds a journal that is read: a hundred thousand changes.
	MaxSize = 256 << 20
	// Reserve is the room for the records of a change: two for each step, of some 200
	// bytes, and one or two with a list of tasks.
	Reserve = 128 << 10
)

// State is how far a step, or with an empty step the whole change, has come.
type State string

const (
	// Begin: it is about to be done.
	Begin State = "begin"
	// Done: it is done.
	Done State = "done"
	// Failed: it could not be done, and had no effect.
	Failed State = "failed"
	// Undo: it is about to be undone.
	Undo State = "undo"
	// Undone: it is undone.
	Undone State = "undone"
	// Stuck: it could not be undone.
	Stuck State = "stuck"
	// Committed ends a change that stays.
	Committed State = "committed"
	// Aborted ends a change of which nothing is left.
	Aborted State = "aborted"
)

// Record is one line.
type Record struct {
	Time time.Time `json:"time"`
	// Change is the same for all records of one change, Kind what it does, such as
	// apply or rollback.
	Change string `json:"change"`
	Kind   string `json:"kind"`
	// Boot and Release are the kernel's boot id and release, Steps is how many steps
	// there are to be; in the first record of a change.
	Boot    string `json:"boot,omitempty"`
	Release string `json:"release,omitempty"`
	Steps   int    `json:"steps,omitempty"`
	// Update is the update the step belongs to, Module the name under which its
	// module is loaded, BuildID that of the module in hex; all empty for the change
	// as a whole, which has Updates.
	Update  string   `json:"update,omitempty"`
	Module  string   `json:"module,omitempty"`
	BuildID string   `json:"build_id,omitempty"`
	Updates []string `json:"updates,omitempty"`
	Step    string   `json:"step,omitempty"`
	State   State    `json:"state"`
	Detail  string   `json:"detail,omitempty"`
	// Fault, of a step that failed, says that it did for what was seen on probation:
	// that counts against the update.
	Fault bool `json:"fault,omitempty"`
}

// Journal is a journal that is open for writing. One process writes at a time;
// the caller holds the host's lock.
type Journal struct{ f *os.File }

// Open opens the journal at path for writing and makes it if need be, the
// directory too. What a crash left of an unfinished line is cut off: the step it
// announced has not begun.
func Open(path string) (*Journal, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	if err := repair(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("repairing the journal: %w", err)
	}
	if err := reserve(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("making room for the journal: %w", err)
	}
	// The file's name has to last as long as its content.
	if err := SyncDir(filepath.Dir(path)); err != nil {
		f.Close()
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	return &Journal{f}, nil
}

// repair cuts the file off after its last newline.
func repair(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	tail := make([]byte, min(st.Size(), MaxLine+1))
	if _, err := f.ReadAt(tail, st.Size()-int64(len(tail))); err != nil {
		return err
	}
	end := bytes.LastIndexByte(tail, '\n') + 1
	if end == len(tail) {
		return nil
	}
	if end == 0 && int64(len(tail)) < st.Size() {
		return errors.New("its last line is too long to be a record")
	}
	if err := f.Truncate(st.Size() - int64(len(tail)-end)); err != nil {
		return err
	}
	return f.Sync()
}

// reserve has the file system keep room for the records of a change behind the end
// of the file, so that a disk that is full, or becomes it, is noticed before anything
// is done. Not every file system can.
func reserve(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, st.Size(), Reserve)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOSYS) {
		return nil
	}
	return err
}

// Append writes a record and returns when it is on disk. A time that is not set
// is now.
func (j *Journal) Append(r Record) error {
	if r.Time.IsZero() {
		r.Time = time.Now().UTC()
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	if len(b) >= MaxLine {
		return fmt.Errorf("writing the journal: a record of %d bytes", len(b))
	}
	before, err := j.f.Stat()
	if err != nil {
		return fmt.Errorf("writing the journal: %w", err)
	}
	_, err = j.f.Write(append(b, '\n'))
	if err == nil {
		err = j.f.Sync()
	}
	if err != nil {
		// What a full disk took of the line must not spoil the next one.
		return fmt.Errorf("writing the journal: %w", errors.Join(err, j.f.Truncate(before.Size())))
	}
	return nil
}

// Close closes the file; every record is on disk already.
func (j *Journal) Close() error { return j.f.Close() }

// Read gives all records of the journal at path, the oldest first; none if there
// is no journal. An unfinished last line is left out. Any other line that cannot
// be read is an error that names it: the records before it are given too.
func Read(path string) ([]Record, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	if st.Size() > MaxSize {
		return nil, fmt.Errorf("reading the journal: %d bytes, the limit is %d", st.Size(), int64(MaxSize))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the journal: %w", err)
	}
	list, err := Decode(b)
	if err != nil {
		return list, fmt.Errorf("reading the journal %s: %w", path, err)
	}
	return list, nil
}

// Decode reads the content of a journal; see Read.
func Decode(b []byte) ([]Record, error) {
	var list []Record
	for n := 1; ; n++ {
		line, rest, ended := bytes.Cut(b, []byte{'\n'})
		if !ended {
			return list, nil
		}
		b = rest
		if len(line) >= MaxLine {
			return list, fmt.Errorf("line %d has %d bytes", n, len(line))
		}
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return list, fmt.Errorf("line %d: %w", n, err)
		}
		if r.Change == "" || r.State == "" {
			return list, fmt.Errorf("line %d is no record", n)
		}
		list = append(list, r)
	}
}

// SyncDir makes the names in a directory last: fsync(2) on the directory.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("writing directory %s: %w", dir, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("writing directory %s: %w", dir, err)
	}
	return nil
}
