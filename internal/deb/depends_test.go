// SPDX-License-Identifier: Apache-2.0

package deb

import (
	"fmt"
	"testing"
)

func TestParseDepends(t *testing.T) {
	cases := map[string]string{
		"":                                  "[]",
		"Depends: libc6 (>= 2.36), aa | bb": "[[libc6] [aa bb]]",
		"Pre-Depends: libc6:any\nDepends: libfoo1.2-0+x (= 1:2~3), ${bad}, x1 [amd64] <!nocheck>\n": "[[libc6] [libfoo1.2-0+x] [x1]]",
		"Depends: , |": "[]",
		"nothing":      "[]",
	}
	for text, want := range cases {
		if got := fmt.Sprint(parseDepends(text)); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
}
