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
}

// weight is what it costs to say that an element has changed its place. If
// code moves across the end of a critical section, either of them may be said
// to have moved: it is the primitive. What stands in every function, such as
// "goto out", says nothing of a place.
func (e element) weight() int {
	switch {
	case e.kind != "":
		return 2
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

// differences gives the elements of a that b lacks in its place, and the other
// way round: the rest of a heaviest common subsequence.
func differences(a, b []element) (gone, come []element) {
	for len(a) > 0 && len(b) > 0 && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for len(a) > 0 && len(b) > 0 && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	if len(a)*len(b) > maxCells {
		return lacking(a, b), lacking(b, a)
	}
	// best[i][j] is the weight that a[i:] and b[j:] have in common.
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
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch v := best[i*w+j]; {
		case a[i] == b[j] && v == best[(i+1)*w+j+1]+int32(a[i].weight()):
			i, j = i+1, j+1
		case v == best[(i+1)*w+j]:
			gone = append(gone, a[i])
			i++
		default:
			come = append(come, b[j])
			j++
		}
	}
	return append(gone, a[i:]...), append(come, b[j:]...)
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
