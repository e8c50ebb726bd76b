// SPDX-License-Identifier: Apache-2.0

package review

import (
	"slices"
	"strings"
)

// element is a primitive (kind is set) or a statement of a function.
type element struct {
	kind Kind
	name string
	text string // of a statement, or of the lock
	// label is set, and nothing else, where one stands.
	label string
}

// weight is what it costs to say that an element has changed its place. If
// code moves across the end of a critical section, either of them may be said
// to have moved: it is the primitive. What stands in every function, such as
// "goto out", says nothing of a place.
func (e element) weight() int {
	switch {
	case e.kind != "":
		return 2
	case e.label != "":
		return 1
	case common(e.text):
		return 1
	}
	return 4
}

func common(text string) bool {
	f := strings.Fields(text)
	return len(f) < 2 || slices.ContainsFunc(f, func(w string) bool { return w == "return" || w == "goto" || w == "break" || w == "continue" })
}

// maxCells bounds the table of differences; functions beyond are compared by
// what they contain alone. The largest functions of the kernel have about
// 1,500 statements.
const maxCells = 1 << 23

// change is a stretch in which two versions differ.
type change struct{ gone, come []element }

// differences gives what two sequences do not have in common: the rest of a
// heaviest common subsequence.
func differences(a, b []element) []change {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a)*len(b) > maxCells {
		return []change{{lacking(a, b), lacking(b, a)}}
	}
	// best[i*w+j] is the weight that a[i:] and b[j:] have in common.
	w := len(b) + 1
	best := make([]int32, (len(a)+1)*w)
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			v := max(best[(i+1)*w+j], best[i*w+j+1])
			if a[i] == b[j] {
				v = max(v, best[(i+1)*w+j+1]+int32(a[i].weight()))
			}
			best[i*w+j] = v
		}
	}
	var out []change
	var c change
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch v := best[i*w+j]; {
		case a[i] == b[j] && v == best[(i+1)*w+j+1]+int32(a[i].weight()):
			i, j = i+1, j+1
			out, c = append(out, c), change{}
		case v == best[(i+1)*w+j]:
			c.gone = append(c.gone, a[i])
			i++
		default:
			c.come = append(c.come, b[j])
			j++
		}
	}
	c.gone, c.come = append(c.gone, a[i:]...), append(c.come, b[j:]...)
	return append(out, c)
}

// jumped gives what a change does otherwise by going to a label where it
// returned before: what is given back from there on. A further way to the end
// of a critical section alone is no difference.
func (c change) jumped(whole []element) (out []element) {
	returns := 0
	for _, e := range c.gone {
		if e.kind == "" && slices.Contains(strings.Fields(e.text), "return") {
			returns++
		}
	}
	for _, e := range c.come {
		words := strings.Fields(e.text)
		i := slices.Index(words, "goto")
		if e.kind != "" || i < 0 || i+1 >= len(words) {
			continue
		}
		if returns--; returns < 0 {
			break
		}
		out = append(out, behind(whole, words[i+1])...)
	}
	return out
}

// behind lists what is given back between a label and the next return, and not
// taken there too.
func behind(whole []element, label string) (out []element) {
	at := slices.IndexFunc(whole, func(e element) bool { return e.label == label })
	taken := map[Kind]int{}
	for _, e := range whole[max(at, 0):] {
		if at < 0 || e.kind == "" && strings.HasPrefix(e.text, "return ") {
			break
		}
		if e.kind == "" || e.kind == Ordering {
			continue
		}
		if !releases(e.name) {
			taken[e.kind]++
		} else if taken[e.kind]--; taken[e.kind] < 0 {
			out = append(out, e)
		}
	}
	return out
}

// lacking gives the elements of a that b does not have, as often.
func lacking(a, b []element) (out []element) {
	have := map[element]int{}
	for _, e := range b {
		have[e]++
	}
	for _, e := range a {
		if have[e]--; have[e] < 0 {
			out = append(out, e)
		}
	}
	return out
}
