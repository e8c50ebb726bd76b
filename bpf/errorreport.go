// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/cilium/ebpf/rlimit"
)

// Detector is what has found an error (enum error_detector,
// include/trace/events/error_report.h).
type Detector uint64

// The detectors of Linux 6.1. Debian's kernels have only the last.
const (
	DetectorKFENCE Detector = iota
	DetectorKASAN
	DetectorWarn
)

// ErrorReport is one event of the tracepoint error_report_end (since Linux 5.12).
// 6.1 emits it when a warning, KASAN or KFENCE has printed its report; an Oops or
// a BUG gives none.
type ErrorReport struct {
	Detector Detector
	// ID is the address of the code that warns; of KASAN and KFENCE that of the
	// memory.
	ID       uint64
	PID, TID int
	Comm     string
}

// reportSize is what the program writes: detector, id, pid and tid, comm.
const (
	commLen    = 16 // TASK_COMM_LEN
	reportSize = 8 + 8 + 8 + commLen
)

// ErrorReports receives events until it is closed.
type ErrorReports struct {
	events *ebpf.Map
	link   link.Link
	reader *ringbuf.Reader
}

// WatchErrorReports attaches a program of some twenty instructions to the
// tracepoint, which is reached only when an error is reported. ebpf.ErrNotSupported
// is in the chain where the kernel has no such tracepoint or no ring buffer (5.8).
// It needs CAP_BPF and CAP_PERFMON.
func WatchErrorReports() (w *ErrorReports, err error) {
	defer func() {
		if err != nil {
			w.Close()
			w, err = nil, fmt.Errorf("watching the kernel's error reports: %w", err)
		}
	}()
	w = &ErrorReports{}
	// Without effect since 5.11, where maps are charged to the control group.
	if err := rlimit.RemoveMemlock(); err != nil {
		return w, err
	}
	w.events, err = ebpf.NewMap(&ebpf.MapSpec{Name: "error_reports", Type: ebpf.RingBuf, MaxEntries: uint32(max(os.Getpagesize(), 4096))})
	if err != nil {
		return w, err
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "error_report", Type: ebpf.RawTracepoint, License: "Apache-2.0", Instructions: errorReportProgram(w.events)})
	if err != nil {
		return w, err
	}
	defer prog.Close()
	w.link, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "error_report_end", Program: prog})
	if errors.Is(err, os.ErrNotExist) {
		err = fmt.Errorf("there is no tracepoint error_report_end (since Linux 5.12): %w", ebpf.ErrNotSupported)
	}
	if err != nil {
		return w, err
	}
	w.reader, err = ringbuf.NewReader(w.events)
	return w, err
}

// errorReportProgram copies the two arguments of the tracepoint and who runs. It
// uses no helper that is reserved for GPL programs.
func errorReportProgram(events *ebpf.Map) asm.Instructions {
	const at = -reportSize
	return asm.Instructions{
		// The context of a raw tracepoint is an array of its arguments.
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadMem(asm.R1, asm.R6, 0, asm.DWord),
		asm.StoreMem(asm.RFP, at, asm.R1, asm.DWord),
		asm.LoadMem(asm.R1, asm.R6, 8, asm.DWord),
		asm.StoreMem(asm.RFP, at+8, asm.R1, asm.DWord),
		asm.FnGetCurrentPidTgid.Call(),
		asm.StoreMem(asm.RFP, at+16, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.RFP, at+24, asm.R1, asm.DWord),
		asm.StoreMem(asm.RFP, at+32, asm.R1, asm.DWord),
		asm.Mov.Reg(asm.R1, asm.RFP),
		asm.Add.Imm(asm.R1, at+24),
		asm.Mov.Imm(asm.R2, commLen),
		asm.FnGetCurrentComm.Call(),
		asm.LoadMapPtr(asm.R1, events.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, at),
		asm.Mov.Imm(asm.R3, reportSize),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRingbufOutput.Call(),
		asm.Mov.Imm(asm.R0, 0),
		asm.Return(),
	}
}

// Read waits for the next event; os.ErrClosed is in the chain once it is closed.
func (w *ErrorReports) Read() (ErrorReport, error) {
	rec, err := w.reader.Read()
	if err != nil {
		return ErrorReport{}, fmt.Errorf("reading the kernel's error reports: %w", err)
	}
	return decodeErrorReport(rec.RawSample)
}

func decodeErrorReport(b []byte) (ErrorReport, error) {
	if len(b) < reportSize {
		return ErrorReport{}, fmt.Errorf("reading the kernel's error reports: an event of %d bytes", len(b))
	}
	ne := binary.NativeEndian
	ids := ne.Uint64(b[16:])
	comm, _, _ := strings.Cut(string(b[24:24+commLen]), "\x00")
	return ErrorReport{Detector: Detector(ne.Uint64(b)), ID: ne.Uint64(b[8:]), PID: int(ids >> 32), TID: int(ids & 0xffffffff), Comm: strings.ToValidUTF8(comm, "?")}, nil
}

// Close detaches the program.
func (w *ErrorReports) Close() error {
	var errs []error
	if w.link != nil {
		errs = append(errs, w.link.Close())
	}
	if w.reader != nil {
		errs = append(errs, w.reader.Close())
	}
	if w.events != nil {
		errs = append(errs, w.events.Close())
	}
	return errors.Join(errs...)
}
