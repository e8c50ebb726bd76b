// SPDX-License-Identifier: Apache-2.0

package bpf

import (
	"encoding/binary"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDecodeErrorReport(t *testing.T) {
	ne := binary.NativeEndian
	b := ne.AppendUint64(nil, uint64(DetectorWarn))
	b = ne.AppendUint64(b, 0xffffffffc0001234)
	b = ne.AppendUint64(b, 12<<32|13)
	b = append(b, "cat\x00rest\xff........"...)
	got, err := decodeErrorReport(b)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(ErrorReport{DetectorWarn, 0xffffffffc0001234, 12, 13, "cat"}, got); d != "" {
		t.Error(d)
	}
	for n := range reportSize {
		if _, err := decodeErrorReport(b[:n]); err == nil {
			t.Errorf("%d bytes were taken", n)
		}
	}
}
