package main

import (
	"os"
	"strings"
	"testing"
)

// kase is one build as the operator would start it. The same case
// is recorded from the real Kaniko (go test -run TestFixtures -record with
// KANIKO_EXECUTOR set) and replayed on the stand-in.
type kase struct {
	name         string
	dockerfile   string
	dockerignore string
	context      []entry
	// drop and flags change the flags that the rendered Job gives.
	drop  []string
	flags []string
	// pushed is the reference to read back.
	pushed string
}

func jobFlags() []string {
	return []string{
		"--dockerfile=/kaniko/df/Dockerfile", "--context=dir:///kaniko/buildcontext", "--no-push",
		"--destination=REGISTRY/team/app:1", "--oci-layout-path=/kaniko/out/oci",
		"--digest-file=/dev/termination-log", "--snapshot-mode=redo", "--compressed-caching=false",
		"--reproducible", "--image-format=oci", "--ignore-path=/product_uuid", "--credential-helpers=",
		"--insecure-registry=REGISTRY",
	}
}

func (c kase) arguments() []string {
	var flags []string
	for _, flag := range jobFlags() {
		dropped := false
		for _, prefix := range c.drop {
			dropped = dropped || strings.HasPrefix(flag, prefix)
		}
		if !dropped {
			flags = append(flags, flag)
		}
	}
	return append(flags, c.flags...)
}

const minimal = "FROM scratch\nCOPY go.mod /go.mod\n"

var goMod = []entry{{path: "go.mod", text: "module example.test/app\n"}}

var source = []entry{
	{path: "go.mod", text: "module example.test/app\n"},
	{path: ".git/HEAD", text: "ref: x\n"},
	{path: ".dockerignore", text: "*\n"},
	{path: "config/", mode: 0o700, uid: 5, gid: 6},
	{path: "config/app.yaml", mode: 0o600, text: "a: 1\n", uid: 5, gid: 6},
	{path: "config/a.secret", text: "s\n"},
	{path: "config/link", link: "app.yaml"},
	{path: "tool", mode: 0o755, text: "#!/bin/sh\n"},
	{path: "tool2", hard: "tool"},
	{path: "suid", mode: 0o4755, text: "x"},
}

const rendered = `FROM REGISTRY/base:1 AS builder
RUN ["mkdir", "-p", "/out/rootfs/app", "/out/rootfs/etc/ssl/certs", "/build/home"]
RUN printf '%s\n' 'root:x:0:0:root:/root:/sbin/nologin' 'app-runner:x:10001:10001::/nonexistent:/sbin/nologin' > /out/rootfs/etc/passwd
RUN ["cp", "/etc/ssl/certs/ca-certificates.crt", "/out/rootfs/etc/ssl/certs/ca-certificates.crt"]
RUN ["chown", "-R", "65532:65532", "/build", "/out", "/gocache"]
ENV HOME=/build/home GOFLAGS="-buildvcs=false -modcacherw" GOPROXY="http://127.0.0.1:3001"
USER 65532:65532
WORKDIR /build/src
COPY --chown=65532:65532 go.mod go.su[m] ./
COPY --chown=65532:65532 . .
RUN id -u; id -g; id -G; env | grep -v PWD | grep -v SHLVL | sort; pwd; ls -an | awk '{print $1,$3,$4,$9,$10,$11}' | sort; cat /proc/self/status | grep -E 'Cap(Eff|Bnd)|NoNewPrivs'
RUN ["cp", "-r", "tool", "config", "/out/rootfs/app/"]
FROM scratch
LABEL org.opencontainers.image.revision="0123" org.opencontainers.image.source="https://example.test/app.git"
WORKDIR /app
COPY --from=builder --chown=0:0 /out/rootfs/ /
ENV TZ="Asia/Shanghai"
USER 10001:10001
ENTRYPOINT ["/app/tool"]
`

var cases = []kase{
	{name: "rendered", dockerfile: rendered, dockerignore: ".git\n**/*.secret\n", context: source},
	{name: "rendered_without_reproducible", dockerfile: rendered, dockerignore: ".git\n", context: source, drop: []string{"--reproducible"}},
	{name: "rendered_full_snapshots", dockerfile: rendered, dockerignore: ".git\n", context: source, drop: []string{"--snapshot-mode"}},
	{
		name: "operator_image", context: source, flags: []string{"--build-arg=BASE=REGISTRY/base:1", "--label=built.by=a job"},
		dockerignore: ".git\n",
		dockerfile: `ARG BASE=python:3
FROM ${BASE}
COPY config /wheels
RUN ln -s /wheels/app.yaml /usr-link && mkdir -p /opt/new/deep && echo x > /opt/new/deep/f && rm /var/lib/old/a && rm -r /etc/ssl && chmod 0750 /root && ln /opt/tool /opt/third
RUN rm -rf /wheels /opt/new/deep
ENV PATH=/opt/venv/bin:$PATH EMPTY=
EXPOSE 8080 9090/udp
USER 65532:65532
ENTRYPOINT ["goservice"]
`,
	},
	{
		name: "base_stays_without_files", context: goMod,
		dockerfile: "FROM REGISTRY/base:1\nENV A=1\nUSER 3\nCMD [\"x\"]\n",
	},
	{
		name: "entrypoint_clears_inherited_command", context: goMod,
		dockerfile: "FROM REGISTRY/base:1\nENTRYPOINT run $HOME now\n",
	},
	{
		name: "variables", context: source, dockerignore: ".git\n",
		flags: []string{"--build-arg=VERSION=2", "--build-arg=UNDECLARED=3", "--build-arg=HTTP_PROXY=http://proxy.test"},
		dockerfile: `ARG NAME=base
ARG TAG="1"
FROM REGISTRY/${NAME}:${TAG} AS tools
ARG NAME
ARG VERSION=1
ARG TARGETARCH
ENV BOTH="$VERSION-$NAME" QUOTED="a \"b\" \$c" DEFAULTED=${NONE:-none}
RUN echo "$BOTH|$QUOTED|$DEFAULTED|$TARGETARCH|$UNDECLARED|$HTTP_PROXY|$HOME"
RUN ["sh", "-c", "echo $0 $VERSION", "exec form"]
USER 12
RUN id -u; id -g; echo $HOME
WORKDIR /made/by
WORKDIR user
RUN pwd; ls -ldn . .. | awk '{print $1,$3,$4}'
COPY tool ${BOTH}/
RUN ls -ln 2-base | awk '{print $1,$3,$4,$9}'
FROM scratch
ARG VERSION
ENV V=$VERSION
LABEL "v"="${V}" plain=x
COPY --from=tools /made /opt/$V/
COPY --from=0 /made/by/user/2-base/tool /bin/renamed
`,
	},
	{
		name: "copies", dockerfile: `FROM scratch
COPY tool /a/b/c
COPY tool tool2 /two/
COPY config /folder
COPY config/ /existing/
COPY config/link /link
COPY --chown=1:2 suid config /owned/
COPY no[pe] tool /wild/
COPY *.mod /mods/
WORKDIR /w
COPY tool ./relative
COPY . .
`, context: source, dockerignore: ".git\nconfig/*.secret\n!keep\n",
	},
	{name: "copy_over_mounted_file", dockerfile: "FROM scratch\nCOPY tool /etc/hosts\nCOPY tool /gocache/tool\n", context: source, dockerignore: ".git\n"},
	{name: "copy_folder_over_mounts", dockerfile: "FROM scratch\nCOPY . /\n", context: []entry{
		{path: "etc/hosts", text: "h"}, {path: "etc/other", text: "o"}, {path: "gocache/x", text: "x"}, {path: "kaniko/x", text: "x"},
	}},
	{name: "copy_into_kaniko", dockerfile: "FROM scratch\nCOPY tool /kaniko/evil\n", context: source, dockerignore: ".git\n"},
	{
		name: "context_ignore_file", dockerfile: "FROM scratch\nCOPY . /\n",
		context: []entry{
			{path: ".dockerignore", text: "*\n!kept\n!folder/inner\n"}, {path: "kept", text: "k"},
			{path: "dropped", text: "d"}, {path: "folder/inner", text: "i"}, {path: "folder/outer", text: "o"},
		},
	},
	{
		name: "stage_links", context: goMod,
		dockerfile: `FROM REGISTRY/base:1 AS b
RUN mkdir -p /z/Etc && echo utc > /z/Etc/UTC && ln -s Etc/UTC /z/UTC && ln /z/Etc/UTC /z/hard && chown -h 5:5 /z/UTC && chmod 2775 /z/Etc
FROM scratch
COPY --from=b /z/UTC /zone
COPY --from=b /z /tree
COPY --from=b /etc/link /opt/tool /x/
`,
	},
	{
		name: "links_and_replacements", context: source, dockerignore: ".git\n",
		dockerfile: `FROM REGISTRY/base:1
RUN mkdir -p /usr/lib/deep /was/folder/x /was/empty && ln -s usr/lib /lib && ln -s /usr/lib/deep /abs && echo f > /was/file && ln -s /nowhere /dangling
COPY tool /lib/tool
COPY config /abs
COPY config /lib/new/
COPY tool /dangling
WORKDIR /abs/work
WORKDIR /lib
RUN rm -r /was/folder && ln -s ../usr /was/folder && rm /was/file && mkdir /was/file && echo x > /was/file/y && rmdir /was/empty && echo now > /was/empty
RUN echo more >> /lib/tool && chown 3:4 /lib/new && mv /usr/lib/deep /usr/lib/deeper && ln -sf tool /lib/alias
RUN touch /tmp/t /root/r /var/run 2>/dev/null; mkdir -p /var/run/x /run; echo x > /run/y; echo z > /etc/hosts; echo g > /gocache/g; echo k > /kaniko/k
RUN rm -rf /tmp /run && chmod 0700 /opt
`,
	},
	{name: "empty_layer", context: goMod, dockerfile: "FROM REGISTRY/base:1\nWORKDIR /tmp\nWORKDIR /\nRUN true\n"},
	{name: "docker_format", context: goMod, dockerfile: minimal, drop: []string{"--image-format", "--reproducible"}},
	{name: "oci_on_a_docker_base", context: goMod, dockerfile: "FROM REGISTRY/base:1\nCOPY go.mod /\n", drop: []string{"--reproducible"}},
	{name: "inherited_format", context: goMod, dockerfile: "FROM REGISTRY/base:1\nCOPY go.mod /\n", drop: []string{"--image-format"}},
	{name: "annotations", context: goMod, dockerfile: minimal, flags: []string{"--annotation=a=b"}},
	{name: "target", context: goMod, dockerfile: "FROM scratch AS one\nENV A=1\nFROM scratch AS two\nENV A=2\n", flags: []string{"--target=one"}},
	{name: "registry_map", context: goMod, dockerfile: "FROM nowhere.test/base:1\nENV A=1\n", flags: []string{"--registry-map=nowhere.test=REGISTRY/mirror"}},
	{name: "registry_mirror", context: goMod, dockerfile: "FROM base:1\nENV A=1\n", flags: []string{"--registry-mirror=REGISTRY/mirror"}},
	{name: "tls_unknown", context: goMod, dockerfile: "FROM SECURE/base:1\nENV A=1\n"},
	{name: "tls_certificate", context: goMod, dockerfile: "FROM SECURE/base:1\nENV A=1\n", flags: []string{"--registry-certificate=SECURE=/kaniko/df/registry.pem"}},
	{name: "tls_certificate_missing", context: goMod, dockerfile: minimal, drop: []string{"--no-push", "--destination"}, flags: []string{"--registry-certificate=SECURE=/none.pem", "--destination=SECURE/team/app:1"}},
	{
		name: "tls_unverified", context: goMod, dockerfile: "FROM SECURE/base:1\nENV A=1\n", drop: []string{"--no-push", "--destination"},
		flags: []string{"--skip-tls-verify-registry=SECURE", "--destination=SECURE/team/secure:1"}, pushed: "REGISTRY/team/secure:1",
	},
	{name: "name_files", context: goMod, dockerfile: minimal, drop: []string{"--digest-file"}, flags: []string{"--destination=REGISTRY/team/other:2", "--image-name-with-digest-file=/dev/termination-log"}},
	{name: "copy_stage_owner_kept", context: source, dockerignore: ".git\n", dockerfile: "FROM REGISTRY/base:1 AS b\nUSER 77\nCOPY --chown=5:6 config /c/d\nWORKDIR /e/f\nRUN touch /e/f/g\nFROM scratch\nCOPY --from=b /c /c\nCOPY --from=b /e/f/g /var/lib/old/b /g/\n"},

	{name: "run_fails", context: goMod, dockerfile: "FROM REGISTRY/base:1\nRUN echo before; exit 7\n"},
	{name: "run_killed", context: goMod, dockerfile: "FROM REGISTRY/base:1\nRUN kill -9 $$\n"},
	{name: "run_program_missing", context: goMod, dockerfile: "FROM REGISTRY/base:1\nRUN [\"nothing\"]\n"},
	{name: "run_shell_program_missing", context: goMod, dockerfile: "FROM REGISTRY/base:1\nRUN nothing\n"},
	{name: "run_as_other_leaves_child", context: goMod, dockerfile: "FROM REGISTRY/base:1\nUSER 9:9\nRUN sleep 30 &\n"},
	{name: "user_unknown", context: goMod, dockerfile: "FROM REGISTRY/base:1\nUSER nobody-here\nRUN true\n"},
	{name: "base_tag_missing", context: goMod, dockerfile: "FROM REGISTRY/base:none\n"},
	{name: "base_missing", context: goMod, dockerfile: "FROM REGISTRY/none:1\n", flags: []string{"--image-download-retry=1"}},
	{name: "base_private", context: goMod, dockerfile: "FROM REGISTRY/private/none:1\n"},
	{name: "base_unreachable", context: goMod, dockerfile: "FROM 127.0.0.1:1/none:1\n", flags: []string{"--insecure-registry=127.0.0.1:1"}},
	{name: "base_name_invalid", context: goMod, dockerfile: "FROM REGISTRY/Upper:1\n"},
	{name: "base_name_empty", context: goMod, dockerfile: "ARG BASE\nFROM ${BASE}\n"},
	{name: "dockerfile_broken", context: goMod, dockerfile: "FROM scratch\nRUN [\n\nNOTHING x\n"},
	{name: "dockerfile_empty", context: goMod, dockerfile: "# nothing\n"},
	{name: "copy_source_missing", context: goMod, dockerfile: "FROM scratch\nCOPY none /none\n"},
	{name: "copy_source_ignored", context: goMod, dockerignore: "go.mod\n", dockerfile: minimal},
	{name: "copy_stage_file_missing", context: goMod, dockerfile: "FROM REGISTRY/base:1 AS b\nRUN true\nFROM scratch\nCOPY --from=b /none /none\n"},
	{name: "copy_many_to_one", context: source, dockerfile: "FROM scratch\nCOPY tool tool2 /one\n", dockerignore: ".git\n"},
	{name: "flag_unknown", context: goMod, dockerfile: minimal, flags: []string{"--no-such-flag"}},
	{name: "flag_value_wrong", context: goMod, dockerfile: minimal, flags: []string{"--image-format=tar"}},
	{name: "destination_missing", context: goMod, dockerfile: minimal, drop: []string{"--no-push", "--destination"}},
	{name: "dockerfile_missing", context: goMod, dockerfile: minimal, flags: []string{"--dockerfile=/kaniko/df/Other"}},
	{name: "context_scheme_unknown", context: goMod, dockerfile: minimal, flags: []string{"--context=ftp://x"}},
	{name: "context_sub_path_missing", context: goMod, dockerfile: minimal, flags: []string{"--context-sub-path=none"}},
	{name: "snapshot_mode_wrong", context: goMod, dockerfile: minimal, flags: []string{"--snapshot-mode=other"}},

	{name: "build_and_push", context: goMod, dockerfile: minimal, drop: []string{"--no-push"}, pushed: "REGISTRY/team/app:1"},
	{name: "build_and_push_denied", context: goMod, dockerfile: minimal, drop: []string{"--no-push", "--destination"}, flags: []string{"--destination=REGISTRY/denied/app:1"}},
	{name: "build_and_push_denied_unchecked", context: goMod, dockerfile: minimal, drop: []string{"--no-push", "--destination"}, flags: []string{"--destination=REGISTRY/denied/app:1", "--skip-push-permission-check"}},
}

// TestFixtures holds the stand-in to what the real Kaniko did with the same
// input: exit code, error texts, digest file, configuration, layers and every
// file's mode and owner.
func TestFixtures(t *testing.T) {
	l := newLab(t)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := l.run(t, c)
			text := string(written(t, l.facts(t, c, o)))
			if *record {
				must(t, os.WriteFile(fixturePath(c.name), []byte(text), 0o644))
				return
			}
			wanted, err := os.ReadFile(fixturePath(c.name))
			must(t, err)
			if text != string(wanted) {
				t.Errorf("the stand-in and the recorded Kaniko differ:\n%s\nlog:\n%s",
					differences(string(wanted), text), o.log)
			}
			if !strings.HasPrefix(o.log, announcement+"\n") {
				t.Errorf("the first line does not say what this program is: %q", o.log)
			}
		})
	}
}

// differences are the lines that only one of the texts has.
func differences(wanted, got string) string {
	var result strings.Builder
	only := func(mark, one, other string) {
		known := map[string]int{}
		for line := range strings.Lines(other) {
			known[line]++
		}
		for line := range strings.Lines(one) {
			if known[line]--; known[line] < 0 {
				result.WriteString(mark + line)
			}
		}
	}
	only("- kaniko:   ", wanted, got)
	only("+ stand-in: ", got, wanted)
	return result.String()
}
