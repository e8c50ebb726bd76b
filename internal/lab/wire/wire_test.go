// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	e := NewEncoder(&b)
	want := []*Message{
		{ID: 1, Op: OpExec, Body: Body(Exec{Argv: []string{"a", "b\n\x00\xff"}, Timeout: 5})},
		{ID: 2, Op: OpPutData, Data: bytes.Repeat([]byte{0, 10, 13, 255}, ChunkSize/4), End: true},
		{Op: OpAck, N: 77},
		{ID: 3, Op: OpDone, Error: "no", Errno: 2},
	}
	for _, m := range want {
		if err := e.Encode(m); err != nil {
			t.Fatal(err)
		}
	}
	total := b.Len()
	d := NewDecoder(&b)
	read := 0
	for _, w := range want {
		m, n, err := d.Decode()
		if err != nil {
			t.Fatal(err)
		}
		read += n
		if diff := cmp.Diff(w, m); diff != "" {
			t.Error(diff)
		}
	}
	if _, _, err := d.Decode(); err != io.EOF || read != total {
		t.Errorf("end: %v, %d of %d bytes", err, read, total)
	}
}

func TestDamageIsNoticed(t *testing.T) {
	line, err := Marshal(&Message{ID: 1, Op: OpData, Data: []byte("hello, world, this is data")})
	if err != nil {
		t.Fatal(err)
	}
	i := bytes.Index(line, []byte("aGVsbG8")) // base64 of "hello"
	flipped := bytes.Clone(line)
	flipped[i] = 'b'
	lost := append(bytes.Clone(line[:i]), line[i+4:]...)
	merged := append(bytes.Clone(line[:len(line)-1]), line...)
	cases := map[string][]byte{
		"flipped": flipped, "lost": lost, "merged": merged, "cut": line[:len(line)-5],
		"text": []byte("Booting...\n"), "empty": []byte("{}\n"), "long": bytes.Repeat([]byte("x"), MaxLine+5),
	}
	for name, in := range cases {
		if m, _, err := NewDecoder(bytes.NewReader(in)).Decode(); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v, %v", name, m, err)
		}
	}
}

func TestLenientUntilTheFirstMessage(t *testing.T) {
	d := NewDecoder(strings.NewReader("SeaBIOS\n\x1b[2J\n" + strings.Repeat("y", 2*MaxLine) + "\n{\"op\":\"hello\"}\njunk\n"))
	d.Lenient = true
	if m, _, err := d.Decode(); err != nil || m.Op != OpHello {
		t.Fatalf("%v, %v", m, err)
	}
	if _, _, err := d.Decode(); !errors.Is(err, ErrDamaged) {
		t.Errorf("junk after the first message: %v", err)
	}
}

func TestTooLongToSend(t *testing.T) {
	if err := NewEncoder(io.Discard).Encode(&Message{Op: OpData, Data: make([]byte, MaxLine)}); err == nil {
		t.Error("accepted")
	}
}

func TestConcurrentWritersKeepLinesWhole(t *testing.T) {
	r, w := io.Pipe()
	e := NewEncoder(w)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				if err := e.Encode(&Message{ID: uint64(i + 1), Op: OpOutput, Data: bytes.Repeat([]byte{byte(i)}, 999)}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	go func() { wg.Wait(); w.Close() }()
	d, n := NewDecoder(r), 0
	for {
		m, _, err := d.Decode()
		if err == io.EOF {
			break
		}
		if err != nil || m.Data[0] != byte(m.ID-1) {
			t.Fatalf("%v, %v", m, err)
		}
		n++
	}
	if n != 200 {
		t.Errorf("%d messages", n)
	}
}

// FuzzDecode: whatever comes in gives a message or an error, and a message
// survives being sent again.
func FuzzDecode(f *testing.F) {
	f.Add([]byte("{\"op\":\"hello\"}\n"))
	f.Add([]byte("{\"id\":1,\"op\":\"data\",\"data\":\"aGk=\",\"sum\":3633523372}\n"))
	f.Add([]byte("{\"id\":-1,\"op\":1}\n{\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		d := NewDecoder(bytes.NewReader(in))
		for {
			m, n, err := d.Decode()
			if err != nil {
				if m != nil || err != io.EOF && !errors.Is(err, ErrDamaged) {
					t.Fatalf("%v, %v", m, err)
				}
				return
			}
			if n <= 0 || n > len(in) {
				t.Fatalf("length %d", n)
			}
			line, err := Marshal(m)
			if err != nil {
				continue // grew beyond MaxLine by escaping
			}
			again, _, err := NewDecoder(bytes.NewReader(line)).Decode()
			if err != nil || again.ID != m.ID || again.Op != m.Op || !bytes.Equal(again.Data, m.Data) {
				t.Fatalf("%+v became %+v, %v", m, again, err)
			}
		}
	})
}
