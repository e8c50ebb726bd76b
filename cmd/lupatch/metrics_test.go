// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"

	"github.com/lupatch/lupatch/kpatch"
	"github.com/lupatch/lupatch/update"
)

// read gives the samples of a text as Prometheus' own parser sees them.
func readMetrics(t *testing.T, text []byte) (samples map[string]float64) {
	t.Helper()
	var p expfmt.TextParser
	families, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	samples = map[string]float64{}
	for name, f := range families {
		if f.GetHelp() == "" || f.GetType().String() != "GAUGE" {
			t.Errorf("%s: help %q, type %s", name, f.GetHelp(), f.GetType())
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			slices.Sort(labels)
			key := name + "{" + strings.Join(labels, ",") + "}"
			if _, ok := samples[key]; ok {
				t.Errorf("%s is there twice", key)
			}
			samples[key] = m.GetGauge().GetValue()
		}
	}
	return samples
}

const odd = "a \"subject\"\\ of\ntwo lines \xff"

// everything is a status that has a sample of every metric.
func everything() *update.Status {
	return &update.Status{
		Release: "6.1.0-47-amd64",
		Units:   []update.UnitStatus{{Unit: "e1000", Version: 2}},
		Updates: []update.UpdateStatus{{Update: "fix", Module: "fix__2", State: update.StateProbation, Since: time.UnixMilli(1700000000500), Subject: odd, CVE: []string{"CVE-1", "CVE-2"},
			Units: []update.Changed{{Unit: "e1000", Version: 2, Waiting: true, Functions: []string{"a", "b"}}}}},
		Resident:   []update.UpdateStatus{{Update: "old", Module: "old", State: update.StateResident}},
		Foreign:    []kpatch.Livepatch{{Name: "x"}, {Name: "y"}},
		Transition: &kpatch.Progress{Remaining: make([]kpatch.Task, 3)},
		Open:       []update.Recovered{{}, {AtWork: true}},
		Barred:     map[string]string{"bad": "twice"},
		Damaged:    map[string]string{"torn": "x"},
		Taint:      []kpatch.TaintFlag{{Letter: "D"}},
		RebootOwed: []string{"an Oops"},
	}
}

func TestMetrics(t *testing.T) {
	var b bytes.Buffer
	writeMetrics(&b, everything())
	want := map[string]float64{
		"lupatch_kernel_info{release=6.1.0-47-amd64}": 1,
		"lupatch_unit_version{unit=e1000}":            2,
		"lupatch_update_info{cve=CVE-1,CVE-2,module=fix__2,subject=a \"subject\"\\ of\ntwo lines ?,update=fix}": 1,
		"lupatch_update_info{cve=,module=old,subject=,update=old}":                                              1,
		"lupatch_update_applied_timestamp_seconds{module=fix__2,update=fix}":                                    1700000000.5,
		"lupatch_update_functions{module=fix__2,unit=e1000,update=fix}":                                         2,
		"lupatch_update_waiting{module=fix__2,unit=e1000,update=fix}":                                           1,
		"lupatch_transition{}":                 1,
		"lupatch_transition_tasks_remaining{}": 3,
		"lupatch_foreign_livepatches{}":        2,
		"lupatch_resident_modules{}":           1,
		"lupatch_open_changes{}":               1,
		"lupatch_damaged_updates{}":            1,
		"lupatch_update_barred{update=bad}":    1,
		"lupatch_reboot_owed{}":                1,
		"lupatch_kernel_taint{flag=D}":         1,
	}
	for _, u := range [][2]string{{"fix", "fix__2"}, {"old", "old"}} {
		for _, state := range updateStates {
			is := 0.0
			if u[0] == "fix" && state == "on probation" || u[0] == "old" && state == "resident" {
				is = 1
			}
			want[fmt.Sprintf("lupatch_update_state{module=%s,state=%s,update=%s}", u[1], state, u[0])] = is
		}
	}
	if d := cmp.Diff(want, readMetrics(t, b.Bytes())); d != "" {
		t.Fatal(d)
	}
	// A host with nothing on it has its zeros, too.
	b.Reset()
	writeMetrics(&b, &update.Status{})
	if got := readMetrics(t, b.Bytes()); got["lupatch_reboot_owed{}"] != 0 || len(got) != 8 {
		t.Errorf("%v", got)
	}
}

// The file is replaced as a whole, readable for others, and nothing else is left.
func TestMetricsFile(t *testing.T) {
	h, out, _ := terminal(t, "")
	dir := t.TempDir()
	file := filepath.Join(dir, "lupatch.prom")
	if err := os.WriteFile(file, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer before.Close()
	if code := run(h, []string{"lupatch", "status", "--prometheus", "--output", file}); code != exitOK || out.Len() > 0 {
		t.Fatal(code, out)
	}
	b, err := os.ReadFile(file)
	if err != nil || readMetrics(t, b)["lupatch_kernel_info{release=6.1.0-47-amd64}"] != 1 {
		t.Fatal(string(b), err)
	}
	if st, err := os.Stat(file); err != nil || st.Mode().Perm() != 0o644 {
		t.Error(st.Mode(), err)
	}
	old := make([]byte, 3)
	if _, err := before.Read(old); err != nil || string(old) != "old" {
		t.Errorf("who had it open reads %q, %v", old, err)
	}
	if list, _ := os.ReadDir(dir); len(list) != 1 {
		t.Errorf("left behind: %v", list)
	}
	if code := run(h, []string{"lupatch", "status", "--prometheus", "--output", filepath.Join(dir, "no", "such")}); code != exitFailure {
		t.Error(code)
	}
}

const (
	metricsDoc   = "../../docs/metrics.md"
	metricsIntro = `<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- Made by "go generate ./cmd/lupatch". -->
# Metrics

What "lupatch status --prometheus" writes. A timer that runs

    lupatch status --prometheus --output /var/lib/prometheus/node-exporter/lupatch.prom

keeps it before node_exporter's textfile collector. All are gauges.

| metric | labels | meaning |
| --- | --- | --- |
`
)

// The document has every metric that is written.
func TestMetricsDocument(t *testing.T) {
	var b bytes.Buffer
	writeMetrics(&b, everything())
	labels := map[string][]string{}
	var p expfmt.TextParser
	families, err := p.TextToMetricFamilies(bytes.NewReader(b.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range families {
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels[name] = append(labels[name], "`"+l.GetName()+"`")
		}
	}
	doc := metricsIntro
	for line := range strings.Lines(b.String()) {
		if name, help, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "# HELP ")), " "); ok && strings.HasPrefix(line, "# HELP ") {
			doc += fmt.Sprintf("| `%s` | %s | %s |\n", name, strings.Join(labels[name], ", "), help)
			delete(families, name)
		}
	}
	if len(families) > 0 {
		t.Errorf("without a text: %v", families)
	}
	if *writeJSONDoc {
		if err := os.WriteFile(metricsDoc, []byte(doc), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(metricsDoc)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), doc); d != "" {
		t.Errorf("docs/metrics.md is not what is written; `go generate ./cmd/lupatch` makes it:\n%s", d)
	}
}
