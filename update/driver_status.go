// SPDX-License-Identifier: Apache-2.0

package update

import (
	"time"

	"github.com/lupatch/lupatch/internal/journal"
)

// DriverStatus is a driver that lupatch has replaced and that runs.
type DriverStatus struct {
	Module string `json:"module"`
	// Update is what replaced it, Version how many did; Below are those below it, the
	// newest first.
	Update  string   `json:"update"`
	Version int      `json:"version"`
	Below   []string `json:"below,omitempty"`
	BuildID string   `json:"build_id"`
	// Since is when it was applied, by the journal.
	Since time.Time `json:"since,omitzero"`
}

// drivers lists the replaced drivers that run.
func (h *Host) drivers() ([]DriverStatus, error) {
	all, err := h.DriversInForce()
	if err != nil {
		return nil, err
	}
	records, err := journal.Read(h.journalPath())
	if err != nil {
		return nil, err
	}
	var out []DriverStatus
	for _, list := range all {
		v := list[len(list)-1]
		d := DriverStatus{Module: v.Module, Update: v.Name(), Version: v.Number, BuildID: v.BuildID}
		for i := len(list) - 2; i > 0; i-- {
			d.Below = append(d.Below, list[i].Name())
		}
		for _, r := range records {
			if r.Kind == string(KindDriver) && r.BuildID == v.BuildID && r.Step == "finished" && r.State == journal.Done {
				d.Since = r.Time
			}
		}
		out = append(out, d)
	}
	return out, nil
}
