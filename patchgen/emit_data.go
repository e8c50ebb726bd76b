// SPDX-License-Identifier: Apache-2.0

package patchgen

import (
	"debug/elf"
	"fmt"
	"strings"

	"github.com/lupatch/lupatch/internal/elfobj"
)

// dataHead is the size of the address before each new value.
const dataHead = 8

// data writes the new values of variables, each behind the address of the
// variable in the running kernel.
func (e *emitter) data() ([]DataChange, error) {
	out := e.plan.kept
	for i, w := range e.plan.writes {
		alias := fmt.Sprintf("%sdata%d", e.in.AliasPrefix, i)
		s := &elfobj.Section{
			Name: ".data." + alias, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Align: 8,
			Data: append(make([]byte, dataHead), contents(w.item)...),
		}
		s.Size = uint64(len(s.Data))
		where, err := e.shipped(w.item)
		if err != nil {
			return nil, err
		}
		rs, err := e.convertAll(w.item, w.relocs(), w.item.off, dataHead)
		if err != nil {
			return nil, err
		}
		s.Relocs = append([]elfobj.Reloc{{Type: elf.R_X86_64_64, Sym: where}}, rs...)
		e.out.Sections = append(e.out.Sections, s)
		e.out.Symbols = append(e.out.Symbols, &elfobj.Symbol{Name: alias, Type: elf.STT_OBJECT, Bind: elf.STB_GLOBAL, Section: s, Size: s.Size})
		c := DataChange{
			Name: strings.TrimSuffix(baseName(w.item), "."), Action: w.rule.Action, Param: w.param, What: w.what,
			Alias: alias, Size: w.item.size, ReadOnly: readOnly(w.item.twin),
		}
		for _, l := range w.leaves {
			c.Parts = append(c.Parts, Range{From: uint64(l.off), To: uint64(l.end())})
		}
		out = append(out, c)
	}
	return out, nil
}

// dataEscapes finds addresses of the update that are written into variables.
// They are taken out again, but who has read one meanwhile may keep it.
func (p *plan) dataEscapes() (out []string) {
	for _, w := range p.writes {
		for _, r := range w.relocs() {
			if t, err := p.new.resolve(w.item, r); err == nil && t.item != nil && t.item.included && p.follows(t.item, nil) {
				out = append(out, fmt.Sprintf("%s is made to hold the address of %s", w.item.name, t.item.name))
			}
		}
	}
	return out
}

// callbacks gives the author's callbacks global names.
func (e *emitter) callbacks() (out []Callback) {
	for i, kind := range CallbackKinds {
		it := e.plan.wishes.callbacks[kind]
		if it == nil {
			continue
		}
		alias := fmt.Sprintf("%scallback%d", e.in.AliasPrefix, i)
		s := e.secOf[it]
		e.out.Symbols = append(e.out.Symbols, &elfobj.Symbol{
			Name: alias, Type: elf.STT_FUNC, Bind: elf.STB_GLOBAL, Section: s, Value: it.lead, Size: s.Size - it.lead,
		})
		out = append(out, Callback{Kind: kind, Name: it.name, Alias: alias})
	}
	return out
}
