// SPDX-License-Identifier: Apache-2.0

package poll

import (
	"strings"
	"testing"
	"time"
)

// The loopback interface is on every machine, and up.
func TestPoll(t *testing.T) {
	p, err := Start(Options{Names: []string{"lo"}})
	if err != nil {
		t.Fatal(err)
	}
	limit := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for read := int64(0); read < 20; {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it does not read")
		}
		p.mu.Lock()
		read = min(p.seen["proc"].Reads, p.seen["ioctl"].Reads, p.seen["sysfs"].Reads, p.seen["folders"].Reads)
		p.mu.Unlock()
	}
	if r := p.Stop(); r.Err() != nil || len(r) != 4 || r["proc"].Longest <= 0 {
		t.Errorf("%v: %+v", r.Err(), r)
	}
}

func TestWrongAnswers(t *testing.T) {
	for _, names := range [][]string{nil, {"nosuch0"}} {
		if _, err := Start(Options{Names: names}); err == nil {
			t.Errorf("%q was polled", names)
		}
	}
	good, err := expect("lo")
	if err != nil {
		t.Fatal(err)
	}
	gone := expectation{name: "nosuch0", index: 1 << 20, attrs: map[string]string{"mtu": "1\n"}}
	renamed, changed := good, good
	renamed.name = "lo1"
	changed.attrs = map[string]string{"mtu": "1\n"}
	for _, c := range []struct {
		got  error
		want string
	}{
		{checkIoctl([]expectation{good, gone}), "no such device"},
		{checkIoctl([]expectation{renamed}), `is called "lo", not "lo1"`},
		{checkSysfs([]expectation{good, gone}), "no such file"},
		{checkSysfs([]expectation{changed}), "mtu of lo is"},
		{checkFolders([]expectation{good, gone}), "nosuch0 is not listed"},
		{(&counterReader{}).check([]expectation{gone}, 1), "nosuch0 is not in"},
		{(&counterReader{}).check([]expectation{good}, 1000), "not 1000"},
		{(&counterReader{last: map[string][]uint64{"lo": {1 << 62}}}).check([]expectation{good}, 1), "rx_bytes of lo went back from"},
		{Report{}.Err(), "nothing was polled"},
		{Report{"x": {}}.Err(), "never read"},
		{Report{"x": {Reads: 2, Wrong: 1, First: []string{"bad"}}}.Err(), `x: 1 of 2 answers were wrong, first ["bad"]`},
	} {
		if c.got == nil || !strings.Contains(c.got.Error(), c.want) {
			t.Errorf("got %v, want %s", c.got, c.want)
		}
	}
}

func TestParseDev(t *testing.T) {
	head := "Inter-|   Receive\n face |bytes\n"
	good := head + "    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0:1:18446744073709551615 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"
	got, err := parseDev(good)
	if err != nil || len(got) != 2 || got["lo"][15] != 16 || got["eth0:1"][0] != 1<<64-1 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{head + "lo 1", head + "lo: 1 2", head + "lo: a 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16"} {
		if _, err := parseDev(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
