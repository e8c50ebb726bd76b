// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// CapturePins is where the links and maps of the capture are pinned. As long as
// they are, the capture runs, without a process.
const CapturePins = Mount + "/lupatch/capture"

// The maps that are pinned, and what the names of pinned links begin with.
const (
	pinLatest     = "latest"
	pinInterfaces = "interfaces"
	pinLost       = "lost" // .bss, which holds nothing else
	pinLink       = "at_"
)

// Errors of StartCapture, and of what reads a capture.
var (
	ErrCapturing    = errors.New("the capture is running")
	ErrNotCapturing = errors.New("the capture is not running")
	// ErrForeignCapture is one of another version of lupatch.
	ErrForeignCapture = errors.New("what is captured has the format of another version of lupatch")
	ErrNotMounted     = errors.New("the BPF file system is not mounted at " + Mount)
)

// StartCapture attaches the programs and pins them, so that they go on when this
// process has ended. It needs root, Linux 5.13 with BTF, and the BPF file system;
// ebpf.ErrNotSupported, ErrNotMounted, or ErrCapturing if it runs already, are in
// the chain of the error. If it fails nothing is left behind.
func StartCapture() (err error) {
	if ok, err := Mounted(); err != nil {
		return err
	} else if !ok {
		return ErrNotMounted
	}
	if err := os.MkdirAll(filepath.Dir(CapturePins), 0o700); err != nil {
		return fmt.Errorf("starting the capture: %w", err)
	}
	// Making the folder decides between two that start at the same time.
	if err := os.Mkdir(CapturePins, 0o700); errors.Is(err, fs.ErrExist) {
		return ErrCapturing
	} else if err != nil {
		return fmt.Errorf("starting the capture: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("starting the capture: %w", err), unpin())
		}
	}()
	c, hooks, links, err := attachCapture(false)
	if err != nil {
		return err
	}
	defer c.Close()
	defer closeLinks(links)
	for name, as := range map[string]string{pinLatest: pinLatest, pinInterfaces: pinInterfaces, ".bss": pinLost} {
		if err := c.Maps[name].Pin(filepath.Join(CapturePins, as)); err != nil {
			return err
		}
	}
	for i, l := range links {
		if err := l.Pin(filepath.Join(CapturePins, pinLink+hooks[i].Program)); err != nil {
			return err
		}
	}
	return nil
}

// StopCapture detaches everything, forgets what was captured, and waits until the
// kernel has let go of the programs, which it does a little later.
// ErrNotCapturing is in the chain of the error if there is nothing to stop.
func StopCapture(ctx context.Context) error {
	links, err := pinnedLinks()
	if err != nil {
		return err
	}
	var ids []ebpf.ProgramID
	for _, l := range links {
		if info, err := l.Info(); err == nil {
			ids = append(ids, info.Program)
		}
	}
	closeLinks(links)
	if err := unpin(); err != nil {
		return fmt.Errorf("stopping the capture: %w", err)
	}
	// A program goes after its link has left the function; nobody is told.
	for len(ids) > 0 {
		p, err := ebpf.NewProgramFromID(ids[0])
		if errors.Is(err, os.ErrNotExist) {
			ids = ids[1:]
			continue
		}
		if err != nil {
			return fmt.Errorf("stopping the capture: %w", err)
		}
		p.Close()
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopping the capture: %w", ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
	return nil
}

// unpin removes the links before the maps, and the folders if they are empty then.
func unpin() error {
	entries, err := os.ReadDir(CapturePins)
	if err != nil {
		return err
	}
	var errs []error
	for _, links := range []bool{true, false} {
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), pinLink) == links {
				errs = append(errs, os.Remove(filepath.Join(CapturePins, e.Name())))
			}
		}
	}
	errs = append(errs, os.Remove(CapturePins))
	// It may hold something else.
	_ = os.Remove(filepath.Dir(CapturePins))
	return errors.Join(errs...)
}

// pinnedLinks opens them; the caller closes them.
func pinnedLinks() ([]link.Link, error) {
	entries, err := os.ReadDir(CapturePins)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotCapturing
	}
	if err != nil {
		return nil, fmt.Errorf("looking at the capture: %w", err)
	}
	var links []link.Link
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), pinLink) {
			continue
		}
		l, err := link.LoadPinnedLink(filepath.Join(CapturePins, e.Name()), nil)
		if err != nil {
			closeLinks(links)
			return nil, fmt.Errorf("opening the pinned link %s: %w", e.Name(), err)
		}
		links = append(links, l)
	}
	return links, nil
}

// Capturing is the state of the capture.
type Capturing struct {
	// On says whether it runs.
	On bool `json:"on"`
	// Attached are the functions it is attached to.
	Attached []Hook `json:"attached,omitempty"`
	// Missing are those that this kernel has and that it is not attached to:
	// whoever started it was stopped half way, or somebody has removed a pin.
	Missing []Hook `json:"missing,omitempty"`
	// NoData says that what requests point to cannot be read, for the kernel is
	// locked down for confidentiality; requests by ethtool are not seen then.
	NoData bool `json:"no_data,omitempty"`
	// Lost is how many requests found no room in the maps.
	Lost uint64 `json:"lost,omitempty"`
}

// CaptureState looks which links are pinned. It needs root.
func CaptureState() (*Capturing, error) {
	s := &Capturing{}
	entries, err := os.ReadDir(CapturePins)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking at the capture: %w", err)
	}
	s.On, s.NoData = true, !mayReadUser()
	pinned := map[string]bool{}
	for _, e := range entries {
		pinned[e.Name()] = true
	}
	_, hooks, err := captureSpec(false)
	if err != nil {
		return nil, fmt.Errorf("looking at the capture: %w", err)
	}
	for _, h := range hooks {
		if pinned[pinLink+h.Program] {
			s.Attached = append(s.Attached, h)
		} else {
			s.Missing = append(s.Missing, h)
		}
	}
	lost, err := openPinned(pinLost, 4, 8)
	if errors.Is(err, ErrNotCapturing) { // started half way
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	defer lost.Close()
	if err := lost.Lookup(uint32(0), &s.Lost); err != nil {
		return nil, fmt.Errorf("looking at the capture: %w", err)
	}
	return s, nil
}

func openPinned(name string, key, value int) (*ebpf.Map, error) {
	path := filepath.Join(CapturePins, name)
	// Asked of the folder first: a kernel without BPF has other errors.
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotCapturing
	}
	m, err := ebpf.LoadPinnedMap(path, &ebpf.LoadPinOptions{ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotCapturing
	}
	if err != nil {
		return nil, fmt.Errorf("opening the pinned map %s: %w", name, err)
	}
	if int(m.KeySize()) != key || int(m.ValueSize()) != value {
		m.Close()
		return nil, fmt.Errorf("opening the pinned map %s: %w", name, ErrForeignCapture)
	}
	return m, nil
}
