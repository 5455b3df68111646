module goservice.dev/testcluster/pause

go 1.26
