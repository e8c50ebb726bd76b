// SPDX-License-Identifier: Apache-2.0

package probation

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/lupatch/lupatch/kpatch"
)

const (
	// quiet is how long nothing was added to a report that is then taken as
	// ended. A line takes some milliseconds on a slow serial console.
	quiet = 2 * time.Second
	// linesMax bounds what is kept of one report, openMax the reports that are
	// read at once.
	linesMax = 200
	openMax  = 32
)

// parser takes reports out of the kernel's log. Where the log says who prints a
// line (CONFIG_PRINTK_CALLER) the reports of several CPUs are kept apart;
// elsewhere a line belongs to the report that began last, and reports that were
// open at the same time are marked as mixed.
type parser struct{ open []*block }

// block is a report that is being read.
type block struct {
	Report
	caller      string
	begun       []*start
	best        *start
	seen        time.Time // when the last line was read
	body, stack bool      // past the first lines; in a stack
	interrupted bool
}

// add reads a record and gives the reports that it ends. What processes write
// to the log is passed over.
func (p *parser) add(r kpatch.Record, now time.Time) (done []*Report) {
	if r.Facility != 0 {
		return nil
	}
	for line := range strings.SplitSeq(r.Text, "\n") {
		if d := p.line(r, line, now); d != nil {
			done = append(done, d)
		}
	}
	return done
}

func (p *parser) line(r kpatch.Record, text string, now time.Time) *Report {
	b := p.last(r.Caller)
	s := match(text)
	if s != nil && (b == nil || !b.takes(s)) {
		b = p.begin(r, now)
	}
	if b == nil {
		return nil
	}
	b.seen = now
	if len(b.Lines) < linesMax {
		b.Lines = append(b.Lines, text)
	}
	if s != nil {
		b.start(s, text)
	} else {
		b.read(text)
	}
	if !b.ends(text) {
		return nil
	}
	p.open = slices.DeleteFunc(p.open, func(o *block) bool { return o == b })
	return b.finish()
}

// last is the report that the caller's lines belong to.
func (p *parser) last(caller string) *block {
	for _, b := range slices.Backward(p.open) {
		if b.caller == caller {
			return b
		}
	}
	return nil
}

func (p *parser) begin(r kpatch.Record, now time.Time) *block {
	b := &block{Report: Report{Source: FromLog, Uptime: r.Time, CPU: -1, Times: 1}, caller: r.Caller, seen: now}
	for _, o := range p.open {
		if o.caller == r.Caller {
			o.Mixed, b.Mixed = true, true
		}
	}
	if len(p.open) == openMax {
		p.open = p.open[1:]
	}
	p.open = append(p.open, b)
	return b
}

// expire gives the reports to which nothing was added for some time; with all,
// every one that is open.
func (p *parser) expire(now time.Time, all bool) (done []*Report) {
	p.open = slices.DeleteFunc(p.open, func(b *block) bool {
		if all || now.Sub(b.seen) >= quiet {
			done = append(done, b.finish())
			return true
		}
		return false
	})
	return done
}

// takes says whether a start belongs to the first lines of the report, as
// "kernel BUG at" does behind "cut here".
func (b *block) takes(s *start) bool {
	return !b.body && !slices.Contains(b.begun, s)
}

func (b *block) start(s *start, text string) {
	b.begun = append(b.begun, s)
	if b.best == nil || s.rank > b.best.rank {
		b.best, b.Kind, b.Title = s, s.kind, text
	}
	if s.task != nil {
		if m := s.task.FindStringSubmatch(text); m != nil {
			b.Comm = m[1]
			b.PID, _ = strconv.Atoi(m[2])
		}
	}
}

var (
	reCPU   = re(`^CPU: (\d+) (?:UID: \d+ )?PID: (\d+) Comm: (.+?) (?:Kdump: \S+ )?(?:Tainted: |Not tainted )`)
	reOnCPU = re(`\bCPU(?:: |#)(\d+)`)
	// The code segment of the kernel is 0x10; that of programs is another.
	reRIP   = re(`^(?:RIP: 0010|pc ):\s*([^\s+]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[([^\]\s]+)[^\]]*\])?`)
	reFrame = re(`^\s*(\? )?(?:\[<[0-9a-f]+>\] )?([^\s+]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[([^\]\s]+)[^\]]*\])?(?: \(.*\))?$`)
	reWhere = re(` ([^\s+]+)\+0x[0-9a-f]+/0x[0-9a-f]+(?: \[([^\]\s]+)[^\]]*\])?`)
)

// read takes what a line behind the first ones says.
func (b *block) read(text string) {
	switch {
	case strings.HasPrefix(text, "CPU: "):
		if m := reCPU.FindStringSubmatch(text); m != nil && (!b.body || b.Comm == "") {
			b.CPU, _ = strconv.Atoi(m[1])
			b.PID, _ = strconv.Atoi(m[2])
			b.Comm = m[3]
		}
		b.body = true
	case strings.HasPrefix(text, "Modules linked in:"):
		b.body = true
	case strings.HasPrefix(text, "Call Trace:"), strings.HasPrefix(text, "Call trace:"):
		b.body, b.stack = true, true
	case strings.HasPrefix(text, " </") && text != " </TASK>":
		// What lies under an interrupt's stack was interrupted.
		b.interrupted = true
	case strings.HasPrefix(text, "RIP: 0010:"), strings.HasPrefix(text, "pc : "):
		b.rip(text)
	case b.stack:
		b.frame(text)
	case b.best.rank == 0 && b.Message == "":
		b.Message = text
	}
}

func (b *block) rip(text string) {
	b.body = true
	m := reRIP.FindStringSubmatch(text)
	switch {
	case m == nil:
	case b.stack:
		// The place that an exception or an interrupt came from.
		b.push(Frame{Frame: kpatch.Frame{Function: m[1], Module: m[2]}})
	case b.Function == nil:
		b.Function = &Frame{Frame: kpatch.Frame{Function: m[1], Module: m[2]}}
	}
}

func (b *block) frame(text string) {
	m := reFrame.FindStringSubmatch(text)
	if m == nil {
		return
	}
	f := Frame{Frame: kpatch.Frame{Function: m[2], Module: m[3]}, Unreliable: m[1] != ""}
	b.push(f)
	if !f.Unreliable && entersByInterrupt(f.Function) {
		b.interrupted = true
	}
}

func (b *block) push(f Frame) {
	f.Interrupted = b.interrupted && !contextual(b.Kind)
	b.Stack = append(b.Stack, f)
}

// entersByInterrupt is true for the entry points of device interrupts and NMIs,
// not for those of exceptions, which the interrupted code has caused itself
// (arch/x86/include/asm/idtentry.h).
func entersByInterrupt(function string) bool {
	for _, p := range []string{"asm_sysvec_", "asm_common_interrupt", "asm_spurious_interrupt", "asm_exc_nmi", "end_repeat_nmi", "el1h_64_irq"} {
		if strings.HasPrefix(function, p) {
			return true
		}
	}
	return false
}

func (b *block) ends(text string) bool {
	switch {
	case strings.HasPrefix(text, "---[ end "):
		return true
	case b.best.ends == byStack:
		return b.stack && (text == " </TASK>" || text == "</TASK>")
	case b.best.ends == byRule:
		return b.stack && strings.Trim(text, "=") == "" && text != ""
	}
	return false
}

// finish fills in what the first lines say where nothing else did.
func (b *block) finish() *Report {
	if m := reOnCPU.FindStringSubmatch(b.Title); m != nil && b.CPU < 0 {
		b.CPU, _ = strconv.Atoi(m[1])
	}
	if m := reWhere.FindStringSubmatch(b.Title); m != nil && b.Function == nil {
		b.Function = &Frame{Frame: kpatch.Frame{Function: m[1], Module: m[2]}}
	}
	return &b.Report
}
