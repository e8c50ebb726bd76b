// SPDX-License-Identifier: Apache-2.0

// Command corpus measures what share of real kernel fixes becomes a livepatch
// with no hand work. For each fix of a corpus: does it apply to and compile on
// the source of the kernel by plain kbuild; does lupatch make an update of it;
// do the functions in it agree with an oracle that knows nothing of patchgen;
// does it load, take effect and go again on a throwaway host. It can be
// interrupted at any time and goes on where it was.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/lupatch/lupatch/internal/evidence/record"
	"github.com/lupatch/lupatch/internal/lab"
)

// options are the command line.
type options struct {
	corpus, lupatch, release string
	labels                   string
	table, report            string
	n                        int
	seed                     uint64
	redo                     map[string]bool
	only                     string
	workers                  int
	noLoad, explain          bool
	kpatch, diffone          string
	explained                string
}

func main() {
	lab.RunIfGuest()
	var o options
	var redo string
	flag.StringVar(&o.corpus, "corpus", "", "`FOLDER` with fixes.tsv and fixes/*.patch")
	flag.StringVar(&o.lupatch, "lupatch", "bin/lupatch", "the lupatch `PROGRAM` to measure")
	flag.StringVar(&o.release, "kernel", "6.1.0-47-amd64", "the kernel `RELEASE` to build for")
	flag.StringVar(&o.table, "table", "", "`FILE` (TSV) that holds the results and is continued")
	flag.StringVar(&o.report, "report", "", "`FILE` (Markdown) whose generated part is replaced; empty prints it")
	flag.StringVar(&o.labels, "labels", "", "`FILE` (TSV) with the refusals that a reader expected, to be held against the results")
	flag.IntVar(&o.n, "n", 0, "measure a sample of so many fixes; 0 means all")
	flag.Uint64Var(&o.seed, "seed", 1, "what the sample is drawn with")
	flag.StringVar(&redo, "redo", "", "outcomes to measure again, separated by commas (refused, failed, loaded, built, not-compiled, all)")
	flag.StringVar(&o.only, "only", "", "measure only fixes whose name contains this")
	flag.IntVar(&o.workers, "j", 2, "builds at once")
	flag.BoolVar(&o.noLoad, "no-load", false, "do not load the updates on a lab host")
	flag.StringVar(&o.kpatch, "kpatch", "", "measure nothing; compare with this create-diff-object `PROGRAM` over the fixes")
	flag.StringVar(&o.diffone, "diffone", "bin/diffone", "lupatch's differ as a `PROGRAM`, for -kpatch")
	flag.StringVar(&o.explained, "explained", "", "`FILE` (TSV) with explanations written by hand, for -kpatch")
	flag.BoolVar(&o.explain, "explain", false, "measure nothing; print how the code of the chosen fixes differs to the oracle")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: corpus -corpus FOLDER -table FILE [options]; `make evidence-corpus` runs it")
		flag.PrintDefaults()
	}
	flag.Parse()
	if o.corpus == "" || o.table == "" && !o.explain || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	o.redo = map[string]bool{}
	for _, s := range strings.Split(redo, ",") {
		o.redo[s] = s != ""
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "corpus:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.lupatch, err = filepath.Abs(o.lupatch); err != nil {
		return err
	}
	if o.corpus, err = filepath.Abs(o.corpus); err != nil {
		return err
	}
	fixes, err := readFixes(o.corpus)
	if err != nil {
		return err
	}
	fixes = choose(fixes, o)
	if o.explain {
		return explain(ctx, os.Stdout, o.release, fixes)
	}
	if o.kpatch != "" {
		return differ(ctx, o, fixes)
	}
	tree, err := record.TreeHash(ctx)
	if err != nil {
		return err
	}
	t, err := openTable(o.table, o.release, tree)
	if err != nil {
		return err
	}
	var todo []*fix
	for _, f := range fixes {
		if !t.current(f, o.redo, !o.noLoad) {
			todo = append(todo, f)
		}
	}
	if err := measure(ctx, o, t, todo); err != nil {
		return err
	}
	return t.report(o, fixes)
}
