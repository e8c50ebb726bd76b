// SPDX-License-Identifier: Apache-2.0

package update

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/renameio/v2"
	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/internal/journal"
	"github.com/lupatch/lupatch/internal/refuse"
)

// Forced is what a host remembers of a transition that was forced. It holds
// until the next boot: so long a task may come back into code that it should have
// left.
type Forced struct {
	Update string    `json:"update"`
	Boot   string    `json:"boot"`
	Time   time.Time `json:"time"`
	// Waited names the tasks that had not moved.
	Waited string `json:"waited"`
}

// forcedMark is the end of the name of a mark, which lies beside the module's
// copy in the store and stays when that goes.
const forcedMark = ".forced"

// settleForced is what the kernel is given to end a transition that was forced.
// It looks once a second.
const settleForced = 10 * time.Second

// force ends a transition whose deadline is over. The mark is written first: a
// crash in between leaves a host that owes a reboot for nothing.
func (l *livepatch) force(ctx context.Context) (enabled bool, err error) {
	who, err := l.h.waitsFor(ctx, l.module, l.leaving)
	if err != nil {
		return false, err
	}
	if who == "" {
		return true, nil
	}
	boot, err := l.h.Kernel.BootID()
	if err != nil {
		return false, err
	}
	if err := l.note("transition", "forcing it; it still waited for "+who); err != nil {
		return false, err
	}
	mark := Forced{Update: l.manifest.Name, Boot: boot, Time: time.Now().UTC(), Waited: who}
	if err := l.h.putForced(l.module, &mark); err != nil {
		return false, err
	}
	logrus.Warnf("%s: forced while it waited for %s", l.manifest.Name, who)
	if err := l.h.Kernel.Force(ctx, l.module); err != nil {
		return false, err
	}
	l.result.Forced = &mark
	limited, cancel := context.WithTimeout(ctx, settleForced)
	defer cancel()
	return l.h.Kernel.Wait(limited, l.module, l.report("transition", journal.Begin))
}

func (h *Host) forcedPath(module string) string {
	return filepath.Join(h.Store.Dir, module+forcedMark)
}

func (h *Host) putForced(module string, f *Forced) error {
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(h.forcedPath(module), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("remembering that %s is forced: %w", module, err)
	}
	return journal.SyncDir(h.Store.Dir)
}

// forced gives the mark of a module; nil if it was not forced since the host has
// booted. A mark that cannot be read counts.
func (h *Host) forced(module string) *Forced {
	b, err := os.ReadFile(h.forcedPath(module))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	f := &Forced{Update: module, Waited: "tasks that are not known any more"}
	if err == nil {
		err = json.Unmarshal(b, f)
	}
	if err != nil {
		logrus.Warnf("reading whether %s was forced: %v", module, err)
		return f
	}
	boot, err := h.Kernel.BootID()
	if err == nil && f.Boot != boot {
		return nil
	}
	return f
}

// allForced lists what was forced since the host has booted.
func (h *Host) allForced() []Forced {
	var out []Forced
	for _, module := range h.forcedModules() {
		if f := h.forced(module); f != nil {
			out = append(out, *f)
		}
	}
	return out
}

// forcedModules lists the modules that have a mark.
func (h *Host) forcedModules() []string {
	names, _ := filepath.Glob(h.forcedPath("*"))
	for i, n := range names {
		names[i] = filepath.Base(n[:len(n)-len(forcedMark)])
	}
	return names
}

// forgetForced removes the marks of earlier boots.
func (h *Host) forgetForced() error {
	for _, module := range h.forcedModules() {
		if h.forced(module) != nil {
			continue
		}
		if err := os.Remove(h.forcedPath(module)); err != nil {
			return fmt.Errorf("forgetting that %s was forced: %w", module, err)
		}
	}
	return nil
}

// unload is kpatch's, but never of a module that was forced.
func (h *Host) unload(ctx context.Context, module string, escapes []string) error {
	if f := h.forced(module); f != nil {
		return refuse.New(refuse.UnloadUnsafe, module, "it was forced upon tasks (%s), so that it cannot be told who runs what", f.Waited)
	}
	return h.Kernel.Unload(ctx, module, escapes)
}
