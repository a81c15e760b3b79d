// Follows a gate's log by golang.org/x/mod/sumdb's note and tlog, which Go's checksum database is checked with: the
// checkpoint, every tile, every record, the gate's own proofs. Not one line of it is the gate's.
//
//	go run follow.go URL VKEY TOKEN
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

var url, token string

func main() {
	url, token = os.Args[1], os.Args[3]
	verifier, err := note.NewVerifier(os.Args[2])
	must(err)
	keys := note.VerifierList(verifier)
	tree := open(get("/checkpoint"), keys)
	hashes := tlog.TileHashReader(tree, tiles{})

	records := entries(tree.N)
	for index, record := range records {
		stored, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, int64(index))})
		must(err)
		if stored[0] != tlog.RecordHash(record) {
			must(fmt.Errorf("record %d is not what its tile says", index))
		}
		own, err := tlog.ProveRecord(tree.N, int64(index), hashes)
		must(err)
		must(tlog.CheckRecord(own, tree.N, tree.Hash, int64(index), tlog.RecordHash(record)))
		// The gate's own is one to a later tree, if something was recorded meanwhile.
		head, checkpoint, _ := strings.Cut(string(get(fmt.Sprintf("/v1/records/%d/proof", index))), "\n\n")
		var proof tlog.RecordProof
		for _, line := range strings.Split(head, "\n")[2:] {
			proof = append(proof, hash(line))
		}
		later := open([]byte(checkpoint), keys)
		must(tlog.CheckRecord(proof, later.N, later.Hash, int64(index), tlog.RecordHash(record)))
	}
	for from := int64(1); from <= tree.N; from++ {
		var grown struct{ Proof []string }
		must(json.Unmarshal(get(fmt.Sprintf("/v1/consistency?from=%d&to=%d", from, tree.N)), &grown))
		var proof tlog.TreeProof
		for _, line := range grown.Proof {
			proof = append(proof, hash(line))
		}
		old, err := tlog.TreeHash(from, hashes)
		must(err)
		must(tlog.CheckTree(proof, tree.N, tree.Hash, from, old))
	}
	fmt.Printf("%d records\n", len(records))
}

// open reads a C2SP checkpoint, which tlog knows under another first line only.
func open(text []byte, keys note.Verifiers) tlog.Tree {
	opened, err := note.Open(text, keys)
	must(err)
	lines := strings.Split(opened.Text, "\n")
	size, err := strconv.ParseInt(lines[1], 10, 64)
	must(err)
	return tlog.Tree{N: size, Hash: hash(lines[2])}
}

// tiles reads C2SP tlog-tiles, whose paths have no height: it is always 8.
type tiles struct{}

func (tiles) Height() int { return 8 }

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (tiles) ReadTiles(asked []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range asked {
		all = append(all, get("/"+strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
	}
	return all, nil
}

func entries(size int64) [][]byte {
	var all [][]byte
	for n := int64(0); n*256 < size; n++ {
		width := size - n*256
		if width > 256 {
			width = 256
		}
		path := tlog.Tile{H: 8, L: -1, N: n, W: int(width)}.Path()
		bundle := get("/" + strings.Replace(path, "tile/8/data/", "tile/entries/", 1))
		for len(bundle) > 0 {
			length := int(bundle[0])<<8 | int(bundle[1])
			all, bundle = append(all, bundle[2:2+length]), bundle[2+length:]
		}
	}
	return all
}

func get(path string) []byte {
	request, err := http.NewRequest("GET", url+path, nil)
	must(err)
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(err)
	if response.StatusCode != 200 {
		must(fmt.Errorf("%s: %s: %s", path, response.Status, body))
	}
	return body
}

func hash(line string) (hash tlog.Hash) {
	bytes, err := base64.StdEncoding.DecodeString(line)
	must(err)
	copy(hash[:], bytes)
	return hash
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "NOT PROVED:", err)
		os.Exit(1)
	}
}
