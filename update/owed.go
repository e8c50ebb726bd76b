// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"

	"github.com/sirupsen/logrus"

	"github.com/lupatch/lupatch/kpatch"
)

// health fills in what the kernel says of its own state.
func (s *Status) health(k *kpatch.Kernel) {
	s.Taint, s.RebootOwed = []kpatch.TaintFlag{}, []string{}
	for _, f := range s.Forced {
		s.RebootOwed = append(s.RebootOwed, fmt.Sprintf("%s was forced upon tasks that had not moved (%s)", f.Update, f.Waited))
	}
	taint, err := k.Tainted()
	if err != nil {
		logrus.Warnf("%v", err)
		return
	}
	s.Taint = taint.Flags()
	// What stays resident is disabled and harmless, and no reason.
	if taint&kpatch.TaintDie != 0 {
		what := "there was an Oops or a BUG"
		if c := k.Counts(); c.Known && c.Oopses > 1 {
			what = fmt.Sprintf("there were %d Oopses or BUGs", c.Oopses)
		}
		s.RebootOwed = append(s.RebootOwed, what+" since boot: what died may have left locks that nobody gives back")
	}
}
