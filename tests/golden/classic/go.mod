module git.example.com/shop/httpserver

go 1.19
