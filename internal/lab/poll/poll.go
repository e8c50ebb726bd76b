// SPDX-License-Identifier: Apache-2.0

// Package poll reads what the kernel says about network interfaces over and
// over, in the ways that wait for no lock, and notes every answer that is wrong:
// an interface that is gone for a moment, has another name or a smaller counter.
package poll

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"
)

// DefaultInterval is the pause between two reads of a poller.
const DefaultInterval = time.Millisecond

// maxTexts is how many wrong answers are kept word by word.
const maxTexts = 8

// Options of a poll.
type Options struct {
	// Names are the interfaces; they have to be there at the start.
	Names []string `json:"names"`
	// Interval between two reads; 0 means DefaultInterval.
	Interval time.Duration `json:"interval"`
}

// Seen is what one poller met.
type Seen struct {
	Reads int64 `json:"reads"`
	Wrong int64 `json:"wrong"`
	// First are the first wrong answers, with the time since the start.
	First []string `json:"first,omitempty"`
	// Longest is the longest time that one read took.
	Longest time.Duration `json:"longest_ns"`
}

// Report has what each poller met, by its name.
type Report map[string]Seen

// Err says what was wrong, if anything, or that a poller never read at all.
func (r Report) Err() error {
	var errs []error
	for name, s := range r {
		if s.Wrong > 0 {
			errs = append(errs, fmt.Errorf("%s: %d of %d answers were wrong, first %q", name, s.Wrong, s.Reads, s.First))
		}
		if s.Reads == 0 {
			errs = append(errs, fmt.Errorf("%s: never read", name))
		}
	}
	if len(r) == 0 {
		errs = append(errs, errors.New("nothing was polled"))
	}
	return errors.Join(errs...)
}

// expectation is what an interface has to look like all the time.
type expectation struct {
	name  string
	index int
	attrs map[string]string // below /sys/class/net/NAME
}

// Poller is a running poll.
type Poller struct {
	begin time.Time
	stop  chan struct{}
	once  sync.Once
	wg    sync.WaitGroup

	mu   sync.Mutex
	seen Report
}

// Start begins to poll. It fails if an interface is not there.
func Start(opt Options) (*Poller, error) {
	if opt.Interval <= 0 {
		opt.Interval = DefaultInterval
	}
	if len(opt.Names) == 0 {
		return nil, errors.New("polling: no interface is named")
	}
	var want []expectation
	for _, name := range opt.Names {
		e, err := expect(name)
		if err != nil {
			return nil, fmt.Errorf("polling %s: %w", name, err)
		}
		want = append(want, e)
	}
	dir, err := os.ReadDir(sysNet)
	if err != nil {
		return nil, fmt.Errorf("polling: %w", err)
	}
	// The bonding driver has a file there (bonding_masters).
	dir = slices.DeleteFunc(dir, func(d os.DirEntry) bool { return d.Type().IsRegular() })
	p := &Poller{begin: time.Now(), stop: make(chan struct{}), seen: Report{}}
	counters := &counterReader{}
	for name, check := range map[string]func() error{
		"proc":    func() error { return counters.check(want, len(dir)) },
		"ioctl":   func() error { return checkIoctl(want) },
		"sysfs":   func() error { return checkSysfs(want) },
		"folders": func() error { return checkFolders(want) },
	} {
		p.wg.Add(1)
		go p.run(name, opt.Interval, check)
	}
	return p, nil
}

func (p *Poller) run(name string, interval time.Duration, check func() error) {
	defer p.wg.Done()
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		begin := time.Now()
		err := check()
		p.note(name, begin, time.Since(begin), err)
		select {
		case <-p.stop:
			return
		case <-t.C:
		}
	}
}

func (p *Poller) note(name string, at time.Time, took time.Duration, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.seen[name]
	s.Reads++
	s.Longest = max(s.Longest, took)
	if err != nil {
		if s.Wrong++; len(s.First) < maxTexts {
			s.First = append(s.First, fmt.Sprintf("%v: %v", at.Sub(p.begin).Round(time.Millisecond), err))
		}
	}
	p.seen[name] = s
}

// Stop ends the poll and waits for its last reads.
func (p *Poller) Stop() Report {
	p.once.Do(func() { close(p.stop) })
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen
}
