// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"debug/elf"
	"fmt"
	"hash/fnv"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// listing is one function as objdump prints it.
type listing struct {
	name, section string
	at            uint64
	insns         []insn
}

type insn struct {
	at, end uint64
	text    string
	relocs  []reloc
}

type reloc struct {
	at     uint64
	kind   string
	symbol string
	addend int64
}

var (
	sectionLine  = regexp.MustCompile(`^Disassembly of section (\S+):$`)
	functionLine = regexp.MustCompile(`^([0-9a-f]+) <(.+)>:$`)
	insnLine     = regexp.MustCompile(`^\s*([0-9a-f]+):\t(.*)$`)
	relocLine    = regexp.MustCompile(`^\s*([0-9a-f]+): (R_X86_64_\w+)\t(\S+?)(?:([+-]0x[0-9a-f]+))?$`)
)

// objdump calls back for each function of an object.
func objdump(ctx context.Context, object string, each func(*listing)) error {
	cmd := exec.CommandContext(ctx, "objdump", "-d", "-r", "--no-show-raw-insn", object)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s := bufio.NewScanner(pipe)
	s.Buffer(nil, 1<<20)
	section := ""
	var fn *listing
	flush := func() {
		if fn != nil && len(fn.insns) > 0 {
			fn.finish()
			each(fn)
		}
		fn = nil
	}
	for s.Scan() {
		line := s.Text()
		if m := sectionLine.FindStringSubmatch(line); m != nil {
			flush()
			section = m[1]
		} else if m := functionLine.FindStringSubmatch(line); m != nil {
			flush()
			if textSection(section) {
				fn = &listing{name: m[2], section: section, at: hex(m[1])}
			}
		} else if fn == nil {
			continue
		} else if m := relocLine.FindStringSubmatch(strings.TrimLeft(line, " \t")); m != nil && len(fn.insns) > 0 {
			last := &fn.insns[len(fn.insns)-1]
			r := reloc{at: hex(m[1]), kind: m[2], symbol: m[3]}
			if m[4] != "" {
				r.addend, _ = strconv.ParseInt(strings.Replace(m[4], "0x", "", 1), 16, 64)
			}
			last.relocs = append(last.relocs, r)
		} else if m := insnLine.FindStringSubmatch(line); m != nil {
			fn.insns = append(fn.insns, insn{at: hex(m[1]), text: strings.TrimSpace(m[2])})
		}
	}
	flush()
	if err := s.Err(); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("disassembling %s: %w", object, err)
	}
	return nil
}

func textSection(name string) bool {
	// Replacements of alternatives are no functions.
	return !strings.HasPrefix(name, ".altinstr") && !strings.HasPrefix(name, ".rodata")
}

func hex(s string) uint64 {
	n, _ := strconv.ParseUint(s, 16, 64)
	return n
}

func (l *listing) finish() {
	for i := range l.insns {
		if i+1 < len(l.insns) {
			l.insns[i].end = l.insns[i+1].at
		} else {
			l.insns[i].end = l.insns[i].at + 5 // only reached by a call or jump at the very end
		}
	}
}

var (
	target  = regexp.MustCompile(`\b([0-9a-f]+) <[^>]*>`)
	padding = regexp.MustCompile(`^(data16 |cs )*(nop[wl]?\b|xchg +%ax,%ax|int3)`)
	ripWas  = regexp.MustCompile(`-?0x[0-9a-f]+\(%rip\) +# .*$|# [0-9a-f]+ <.*$`)
	space   = regexp.MustCompile(`\s+`)
)

// normal is the function's text without addresses: jumps within it count
// instructions, everything else is named by symbol or by content.
func (l *listing) normal(img *image) []string {
	index := map[uint64]int{}
	n := 0
	for _, in := range l.insns {
		index[in.at] = n
		if !isPadding(in) {
			n++
		}
	}
	var out []string
	for _, in := range l.insns {
		if isPadding(in) {
			continue
		}
		text := space.ReplaceAllString(in.text, " ")
		var names []string
		for _, r := range in.relocs {
			names = append(names, img.name(l.section, in, r))
		}
		if len(names) > 0 {
			text = ripWas.ReplaceAllString(target.ReplaceAllString(text, "@"), "@(%rip)")
		} else {
			text = target.ReplaceAllStringFunc(text, func(m string) string {
				to := hex(m[:strings.IndexByte(m, ' ')])
				if i, ok := index[to]; ok {
					return fmt.Sprintf("#%d", i)
				}
				return img.symbolAt(l.section, to)
			})
		}
		// The length of a jump is the assembler's choice.
		text = strings.TrimSuffix(text, " ")
		if len(names) > 0 {
			text += " {" + strings.Join(names, ",") + "}"
		}
		out = append(out, text)
	}
	return out
}

// isPadding says whether an instruction only fills space. One with a relocation,
// such as the call of __fentry__ that is printed as nop nowhere, is none.
func isPadding(in insn) bool { return len(in.relocs) == 0 && padding.MatchString(in.text) }

// image knows what is where in an object.
type image struct {
	file     *elf.File
	sections map[string]*elf.Section
	symbols  map[string][]elf.Symbol // by section, sorted
	content  map[string][]byte
}

func readImage(object string) (*image, error) {
	f, err := elf.Open(object)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", object, err)
	}
	defer f.Close()
	img := &image{file: f, sections: map[string]*elf.Section{}, symbols: map[string][]elf.Symbol{}, content: map[string][]byte{}}
	for _, s := range f.Sections {
		img.sections[s.Name] = s
		if s.Type != elf.SHT_NOBITS && s.Flags&elf.SHF_ALLOC != 0 && s.Flags&elf.SHF_EXECINSTR == 0 {
			if b, err := s.Data(); err == nil {
				img.content[s.Name] = b
			}
		}
	}
	syms, err := f.Symbols()
	if err != nil {
		return nil, fmt.Errorf("reading the symbols of %s: %w", object, err)
	}
	for _, s := range syms {
		if int(s.Section) < len(f.Sections) && s.Section > 0 && elf.ST_TYPE(s.Info) != elf.STT_SECTION {
			name := f.Sections[s.Section].Name
			img.symbols[name] = append(img.symbols[name], s)
		}
	}
	for _, list := range img.symbols {
		slices.SortStableFunc(list, func(a, b elf.Symbol) int { return int(int64(a.Value) - int64(b.Value)) })
	}
	return img, nil
}

// name says what a relocation refers to.
func (img *image) name(section string, in insn, r reloc) string {
	kind := strings.TrimPrefix(r.kind, "R_X86_64_")
	off := r.addend
	if kind == "PC32" || kind == "PLT32" {
		off += int64(in.end - r.at) // what the processor adds
		kind = "PC"
	}
	s := img.sections[r.symbol]
	if s == nil {
		// Constants have labels that count through the object.
		if sec, value, ok := img.find(r.symbol); ok && strings.HasPrefix(r.symbol, ".LC") {
			return kind + ":" + img.literal(sec, value+uint64(off))
		}
		return fmt.Sprintf("%s:%s%+d", kind, counter.ReplaceAllString(r.symbol, "$1"), off)
	}
	if strings.Contains(s.Name, ".str") || strings.Contains(s.Name, ".cst") {
		return kind + ":" + img.literal(s.Name, uint64(off))
	}
	return kind + ":" + img.symbolAt(s.Name, uint64(off))
}

func (img *image) find(symbol string) (section string, value uint64, ok bool) {
	for sec, list := range img.symbols {
		for _, s := range list {
			if s.Name == symbol {
				return sec, s.Value, true
			}
		}
	}
	return "", 0, false
}

// literal is the text or constant at a place.
func (img *image) literal(section string, off uint64) string {
	b := img.content[section]
	if off >= uint64(len(b)) {
		return section + "?"
	}
	b = b[off:]
	if !strings.Contains(section, ".cst") {
		if i := slices.Index(b, 0); i >= 0 {
			b = b[:i]
		}
		return strconv.Quote(string(b))
	}
	return fmt.Sprintf("%x", b[:min(len(b), int(img.sections[section].Entsize))])
}

// symbolAt names a place by the symbol that covers it.
func (img *image) symbolAt(section string, off uint64) string {
	var best *elf.Symbol
	for i := range img.symbols[section] {
		s := &img.symbols[section][i]
		if s.Value > off {
			break
		}
		if s.Size == 0 && s.Value != off || s.Value+s.Size < off {
			continue
		}
		// At the border of two, the one that begins counts.
		best = s
	}
	if best == nil {
		return section
	}
	return fmt.Sprintf("%s%+d%s", counter.ReplaceAllString(best.Name, "$1"), off-best.Value, img.constant(section, best))
}

// constant is a mark of what a constant consists of: who reads another value
// does something else, though the code is the same.
func (img *image) constant(section string, s *elf.Symbol) string {
	b := img.content[section]
	if !strings.HasPrefix(section, ".rodata") || s.Size == 0 || s.Value+s.Size > uint64(len(b)) {
		return ""
	}
	h := fnv.New32a()
	h.Write(b[s.Value : s.Value+s.Size])
	return fmt.Sprintf("=%08x", h.Sum32())
}
