// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/manifest"
	"github.com/lupatch/lupatch/kpatch/kpatchtest"
	"github.com/lupatch/lupatch/versions"
)

const (
	oldDriver = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	newDriver = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// interrupted writes a change that replaces lutest and was interrupted in a step.
func (m *machine) interrupted(step string, state journal.State, fault bool) {
	m.t.Helper()
	boot, err := m.Kernel.BootID()
	if err != nil {
		m.t.Fatal(err)
	}
	j, err := journal.Open(m.journalPath())
	if err != nil {
		m.t.Fatal(err)
	}
	defer j.Close()
	c := journal.Record{Change: "c1", Kind: string(KindDriver), Boot: boot, Release: kpatchtest.Release, Steps: 10, Updates: []string{"lutest_2"}, State: journal.Begin}
	s := journal.Record{Change: "c1", Kind: string(KindDriver), Update: "lutest_2", Module: "lutest", BuildID: newDriver, Step: step, State: state, Fault: fault}
	for _, r := range []journal.Record{c, s} {
		if err := j.Append(r); err != nil {
			m.t.Fatal(err)
		}
	}
	for i, id := range []string{oldDriver, newDriver} {
		v := &versions.DriverVersion{Module: "lutest", Number: i, BuildID: id}
		if i > 0 {
			v.Manifest = &manifest.Manifest{Name: "lutest_2"}
		}
		if err := m.Drivers.Put(v, []byte(id)); err != nil {
			m.t.Fatal(err)
		}
	}
}

func (m *machine) installed() string {
	b, err := os.ReadFile(filepath.Join(m.Root, "/lib/modules", kpatchtest.Release, installDir, "lutest.ko"))
	if err != nil {
		return ""
	}
	return string(b)
}

// TestDriverRecovery: what runs is what is written down, and what the next boot gets.
func TestDriverRecovery(t *testing.T) {
	for _, c := range []struct {
		name, step, runs string
		boot             bool
		want             Outcome
		installed        string
	}{
		{"killed, old driver back", "initialised", oldDriver, false, OutcomeUndone, ""},
		{"killed behind the end", stepInstall, newDriver, false, OutcomeCompleted, newDriver},
		{"no driver at all", "disabled", "", false, OutcomeUndone, ""},
		{"power off in the gap", "disabled", oldDriver, true, OutcomeUndone, ""},
		{"power off when it was installed", stepInstall, newDriver, true, OutcomeCompleted, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMachine(t)
			m.interrupted(c.step, journal.Begin, false)
			if c.boot {
				m.reboot()
			}
			if c.runs != "" {
				m.fake.AddModule("lutest", c.runs)
			}
			list, err := m.Recover(context.Background(), Options{})
			if err != nil || len(list) != 1 || list[0].Outcome != c.want {
				t.Fatalf("%+v, %v; want %s", list, err, c.want)
			}
			if got := m.Host; got != nil && m.installed() != c.installed {
				t.Errorf("installed is %q, not %q", m.installed(), c.installed)
			}
			if again, err := m.Recover(context.Background(), Options{}); err != nil || len(again) != 0 {
				t.Errorf("a second time: %+v, %v", again, err)
			}
		})
	}
}

// TestDriverThatDied stays open until the next boot, and is barred from then on.
func TestDriverThatDied(t *testing.T) {
	m := newMachine(t)
	m.interrupted(stepInitialise, journal.Failed, true)
	m.fake.AddModule("lutest", newDriver)
	_, err := m.Recover(context.Background(), Options{})
	var died *DiedError
	if !errors.As(err, &died) {
		t.Fatalf("recovery of a driver that died: %v", err)
	}
	m.reboot()
	m.fake.AddModule("lutest", oldDriver)
	if list, err := m.Recover(context.Background(), Options{}); err != nil || len(list) != 1 || list[0].Outcome != OutcomeUndone {
		t.Fatalf("after the boot: %+v, %v", list, err)
	}
	past, err := m.history()
	if err != nil {
		t.Fatal(err)
	}
	boot, err := m.Kernel.BootID()
	if err != nil {
		t.Fatal(err)
	}
	if why := bars(past, boot)[newDriver]; !strings.Contains(why, "Oops") {
		t.Errorf("it is barred for %q", why)
	}
	if why := bars(past, boot)[oldDriver]; why != "" {
		t.Errorf("the driver of before is barred: %s", why)
	}
}

// TestDriverStatus lists what runs, and what is below it.
func TestDriverStatus(t *testing.T) {
	m := newMachine(t)
	m.interrupted("finished", journal.Done, false)
	if s, err := m.drivers(); err != nil || len(s) != 0 {
		t.Errorf("not loaded, and there is %+v, %v", s, err)
	}
	m.fake.AddModule("lutest", newDriver)
	s, err := m.drivers()
	if err != nil || len(s) != 1 || s[0].Update != "lutest_2" || s[0].Version != 1 || s[0].BuildID != newDriver || s[0].Since.IsZero() {
		t.Errorf("%+v, %v", s, err)
	}
}
