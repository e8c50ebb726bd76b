// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/lupatch/lupatch/update"
)

// metricsMode lets node_exporter, which is not root, read the file.
const metricsMode = 0o644

// exportMetrics prints the metrics, or puts them where node_exporter's textfile
// collector reads them: at no moment is there half a file.
func (h *host) exportMetrics(file string, s *update.Status) error {
	var b bytes.Buffer
	writeMetrics(&b, s)
	if file == "" {
		_, err := h.out.Write(b.Bytes())
		return err
	}
	if err := replaceFile(file, b.Bytes()); err != nil {
		return fmt.Errorf("writing the metrics: %w", err)
	}
	return nil
}

func replaceFile(file string, content []byte) error {
	// Beside it, as elsewhere could not be renamed to here. The collector passes over
	// names that do not end in ".prom".
	f, err := renameio.NewPendingFile(file, renameio.WithTempDir(filepath.Dir(file)), renameio.WithStaticPermissions(metricsMode))
	if err != nil {
		return err
	}
	defer f.Cleanup()
	if _, err := f.Write(content); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}

// updateStates are all states of an update, so that each has a time series.
var updateStates = []string{update.StateApplied, update.StateApplying, update.StateReversing, update.StateStuck, update.StateProbation, update.StateResident}

// writeMetrics writes a status in Prometheus' text format, version 0.0.4. Every
// metric is a gauge.
func writeMetrics(w io.Writer, s *update.Status) {
	m := metrics{w}
	m.family("lupatch_kernel_info", "The running kernel; always 1.")
	m.add("lupatch_kernel_info", 1, "release", s.Release)
	m.family("lupatch_unit_version", "The version that a unit (vmlinux or a module) is at; 0 is as shipped, and not listed.")
	for _, u := range s.Units {
		m.add("lupatch_unit_version", float64(u.Version), "unit", u.Unit)
	}
	all := append(append([]update.UpdateStatus{}, s.Updates...), s.Resident...)
	m.family("lupatch_update_info", "An update in the kernel; always 1.")
	for _, u := range all {
		m.add("lupatch_update_info", 1, "update", u.Update, "module", u.Module, "subject", u.Subject, "cve", strings.Join(u.CVE, ","))
	}
	m.family("lupatch_update_state", "1 for the state that an update is in, 0 for the others.")
	for _, u := range all {
		for _, state := range updateStates {
			m.add("lupatch_update_state", boolValue(u.State == state), "update", u.Update, "module", u.Module, "state", state)
		}
	}
	m.family("lupatch_update_applied_timestamp_seconds", "When an update was loaded, by the journal.")
	for _, u := range s.Updates {
		if !u.Since.IsZero() {
			m.add("lupatch_update_applied_timestamp_seconds", float64(u.Since.UnixMilli())/1000, "update", u.Update, "module", u.Module)
		}
	}
	m.family("lupatch_update_functions", "How many functions an update replaces in a unit.")
	for _, u := range s.Updates {
		for _, c := range u.Units {
			m.add("lupatch_update_functions", float64(len(c.Functions)), "update", u.Update, "module", u.Module, "unit", c.Unit)
		}
	}
	m.family("lupatch_update_waiting", "1 while a module that an update changes is not loaded.")
	for _, u := range s.Updates {
		for _, c := range u.Units {
			m.add("lupatch_update_waiting", boolValue(c.Waiting), "update", u.Update, "module", u.Module, "unit", c.Unit)
		}
	}
	remaining := 0
	if s.Transition != nil {
		remaining = len(s.Transition.Remaining)
	}
	m.one("lupatch_transition", "1 while a livepatch, foreign ones included, is in transition.", boolValue(s.Transition != nil))
	m.one("lupatch_transition_tasks_remaining", "How many tasks that transition still waits for.", float64(remaining))
	m.one("lupatch_foreign_livepatches", "How many livepatches are in the kernel that lupatch did not load.", float64(len(s.Foreign)))
	m.one("lupatch_resident_modules", "How many modules of updates taken back are still in memory.", float64(len(s.Resident)))
	m.one("lupatch_open_changes", "How many changes have not ended and nobody is at work on.", openChanges(s))
	m.one("lupatch_damaged_updates", "How many stored updates cannot be read.", float64(len(s.Damaged)))
	m.family("lupatch_update_barred", "1 for an update that is not to be applied on this host any more.")
	for _, name := range slices.Sorted(maps.Keys(s.Barred)) {
		m.add("lupatch_update_barred", 1, "update", name)
	}
	m.one("lupatch_reboot_owed", "1 if this host should be booted anew.", boolValue(len(s.RebootOwed) > 0))
	m.family("lupatch_kernel_taint", "1 for each taint flag of the kernel that is set.")
	for _, f := range s.Taint {
		m.add("lupatch_kernel_taint", 1, "flag", f.Letter)
	}
}

func openChanges(s *update.Status) (n float64) {
	for _, o := range s.Open {
		n += boolValue(!o.AtWork)
	}
	return n
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

type metrics struct{ w io.Writer }

func (m metrics) family(name, help string) {
	fmt.Fprintf(m.w, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
}

func (m metrics) one(name, help string, value float64) {
	m.family(name, help)
	m.add(name, value)
}

// labelValue escapes what the format wants escaped.
var labelValue = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (m metrics) add(name string, value float64, labels ...string) {
	var pairs []string
	for i := 0; i < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+`="`+labelValue.Replace(strings.ToValidUTF8(labels[i+1], "?"))+`"`)
	}
	set := ""
	if len(pairs) > 0 {
		set = "{" + strings.Join(pairs, ",") + "}"
	}
	fmt.Fprintf(m.w, "%s%s %s\n", name, set, strconv.FormatFloat(value, 'g', -1, 64))
}
